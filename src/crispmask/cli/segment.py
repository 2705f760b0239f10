"""``crispmask segment``: photos in, masks and pictures out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crispmask.cli.console import complain, note, progress_bar, say, waiting
from crispmask.cli.models import ensure_weights
from crispmask.cli.options import options_from
from crispmask.errors import ParamsError
from crispmask.params import DEFAULT_SCORE, CRFParams

if TYPE_CHECKING:
    from crispmask.pipeline import PhotoDone, Report

PREPARING = "Compiling the CRF; the first time takes up to a minute"


@options_from(CRFParams, "overrides", "CRF parameters (each overrides --params)")
def segment(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help="Photos, folders, or glob patterns.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results.")],
    overrides: dict[str, Any],
    detector: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="What finds the objects: 'embedded' (people), a name of 'crispmask models list', an ONNX file, or a "
            "torchvision checkpoint (.pt).",
        ),
    ] = "embedded",
    score: Annotated[
        float, typer.Option(metavar="X", help="Drop detections below this score, 0 to 1.")
    ] = DEFAULT_SCORE,
    params: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="CRF parameters: 'default', 'paper', or a TOML file.")
    ] = "default",
    refine: Annotated[bool, typer.Option("--refine/--no-refine", help="Refine the detector's masks.")] = True,
    joint: Annotated[bool, typer.Option("--joint", help="Give every pixel to one object at most.")] = False,
    annotations: Annotated[
        Path | None,
        typer.Option(metavar="GT.json", help="COCO annotation file that gives the image ids, by file name."),
    ] = None,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Write before/after pictures.")] = True,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads; by default one per processor.", show_default=False)
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where the detector runs: cpu, cuda, or mps (torchvision's only); by default the CPU, and for ONNX "
            "files the GPU where ONNX Runtime has one.",
            show_default=False,
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Half precision, for torchvision's detectors on a GPU.")] = False,
    batch_size: Annotated[
        int, typer.Option(min=1, metavar="N", help="Photos that the detector gets at once; pays on a GPU.")
    ] = 1,
    restart: Annotated[bool, typer.Option("--restart", help="Drop the progress of an interrupted run.")] = False,
) -> None:
    """Find objects in photos and pull their masks onto the real edges.

    Writes results.json (refined masks) and results_before.json (the detector's own) as COCO results,
    images.json (which image id is which photo), and before/after pictures. A run that was interrupted
    goes on where it stopped.
    """
    chosen = read_params(params, overrides)
    ensure_weights(detector)
    with waiting("Loading the detector"):
        from crispmask.detectors import load_detector
        from crispmask.pipeline import Settings, prepare, segment_folder

        settings = Settings(params=chosen, score=score, refine=refine, joint=joint)
        loaded = load_detector(detector, threads=threads or 0, device=device, half=half)
    started = time.monotonic()
    with progress_bar("photo") as progress:
        task = progress.add_task("Looking for photos", total=None)

        def show(step: PhotoDone) -> None:
            nonlocal started
            if step.path is not None:
                progress.update(task, completed=step.done, description=count(step.objects, "object"))
                return
            if step.resumed:
                done = f"{step.resumed} of {count(step.total, 'photo')}"
                note(f"Going on with an interrupted run, which had finished {done}.")
            if refine and step.done < step.total:
                progress.update(task, description=PREPARING)
                prepare(settings)
            # Neither the compilation nor what an earlier run did counts for the rate.
            started = time.monotonic()
            progress.reset(task, total=step.total, completed=step.done, description="Segmenting")

        try:
            report = segment_folder(
                sources,
                output,
                loaded,
                settings,
                annotations=annotations,
                pictures=pictures,
                threads=threads,
                batch_size=batch_size,
                restart=restart,
                on_photo=show,
            )
        except KeyboardInterrupt:
            note("Interrupted: the same command goes on from here.")
            raise
    conclude(report, output, pictures, time.monotonic() - started)


def conclude(report: Report, output: Path, pictures: bool, seconds: float) -> None:
    """Say what was done, complain about what was not, and exit with 1 where there is such."""
    if report.photos:
        say(f"{count(report.objects, 'object')} in {count(report.photos, 'photo')}, {seconds:.1f} s.")
        if report.left_out:
            say(f"Left out, since the annotation file has no such category: {', '.join(report.left_out)}.")
        say(f"Masks      {output / 'results.json'}  (the detector's own: results_before.json)")
        if pictures:
            say(f"Pictures   {output / 'pictures'}")
    for failure in report.failures:
        complain(failure.reason)
    if report.failures:
        if len(report.failures) + report.photos > 1:
            say(f"{len(report.failures)} of {len(report.failures) + report.photos} photos could not be used.")
        raise typer.Exit(1)


def read_params(source: str, overrides: dict[str, Any]) -> CRFParams:
    """The parameters of ``--params`` with single ones replaced."""
    named = {"default": CRFParams, "paper": CRFParams.paper}
    if source not in named and not Path(source).suffix and not Path(source).exists():
        raise ParamsError(f"unknown parameters {source!r}: give 'default', 'paper', or the path of a TOML file")
    params = named[source]() if source in named else CRFParams.from_toml(source)
    return CRFParams.from_dict({**params.as_dict(), **overrides}, source="command line")


def count(n: int, thing: str) -> str:
    """``1 photo``, ``2 photos``."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"
