"""``crispmask segment``: photos in, masks and pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crispmask.cli.cluster import Address, Engine, Gpus, Json, PhotosPerFile, on_ray, only
from crispmask.cli.console import complain, count, say, waiting
from crispmask.cli.crf import PANEL, Joint, Params, Restart, Threads, kept_line, read_params
from crispmask.cli.models import ensure_weights
from crispmask.cli.options import options_from
from crispmask.cli.resumable import Resumable
from crispmask.params import DEFAULT_SCORE, CRFParams

if TYPE_CHECKING:
    from crispmask.pipeline import PhotoDone, Report


@options_from(CRFParams, "overrides", PANEL)
def segment(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE", help="Photos, folders, or glob patterns; with --engine ray also URLs and manifests."
        ),
    ],
    output: Annotated[str, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results.")],
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
    params: Params = "learned",
    refine: Annotated[bool, typer.Option("--refine/--no-refine", help="Refine the detector's masks.")] = True,
    joint: Joint = False,
    annotations: Annotated[
        Path | None,
        typer.Option(
            metavar="GT.json",
            help="COCO annotation file that gives the image ids, by file name; a whole "
            "data set with its folder as SOURCE.",
        ),
    ] = None,
    pictures: Annotated[
        bool | None,
        typer.Option(
            "--pictures/--no-pictures",
            help="Write before/after pictures. [dim]\\[default: pictures][/dim]",
            show_default=False,
        ),
    ] = None,
    threads: Threads = None,
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
    restart: Restart = False,
    engine: Engine = "local",
    address: Address = None,
    photos_per_file: PhotosPerFile = None,
    gpus: Gpus = None,
    json: Json = None,
) -> None:
    """Find objects in photos and pull their masks onto the real edges.

    Writes results.json (refined masks) and results_before.json (the detector's own) as COCO results,
    images.json (which image id is which photo), provenance.json (what made them from what), and before/after
    pictures. A run that was interrupted goes on where it stopped.
    """
    chosen = read_params(params, overrides)
    if engine == "ray":
        only(
            "local",
            threads=threads,
            pictures=pictures or None,
            device=device,
            half=half or None,
            batch_size=batch_size if batch_size > 1 else None,
        )
        from crispmask.pipeline import Settings
        from crispmask.pipeline.ray import segment_on_ray

        settings = Settings(params=chosen, score=score, refine=refine, joint=joint)
        result, seconds = on_ray(
            lambda show: segment_on_ray(
                sources,
                output,
                detector,
                settings,
                address=address,
                annotations=annotations,
                photos_per_file=photos_per_file or 100,
                gpus=gpus,
                json=json is not False,
                restart=restart,
                on_progress=show,
            ),
            "photo",
            settings,
            address,
        )
        conclude(result, output, seconds, json=json is not False, table=True)
        return
    only("ray", address=address, photos_per_file=photos_per_file, gpus=gpus, json=json)
    ensure_weights(detector)
    with waiting("Loading the detector"):
        from crispmask.detectors import load_detector
        from crispmask.pipeline import Settings, segment_folder

        settings = Settings(params=chosen, score=score, refine=refine, joint=joint)
        loaded = load_detector(detector, threads=threads or 0, device=device, half=half)
    with Resumable("photo", "Looking for photos") as work:

        def show(step: PhotoDone) -> None:
            work.show(step, "Segmenting" if step.path is None else count(step.objects, "object"), settings)

        report = segment_folder(
            sources,
            output,
            loaded,
            settings,
            annotations=annotations,
            pictures=pictures is not False,
            threads=threads,
            batch_size=batch_size,
            restart=restart,
            on_photo=show,
        )
    conclude(report, output, work.seconds, pictures=pictures is not False)


def conclude(
    report: Report, output: str, seconds: float, *, json: bool = True, pictures: bool = False, table: bool = False
) -> None:
    """Say what was done, complain about what was not, and exit with 1 where there is such."""
    if report.photos:
        say(f"{count(report.objects, 'object')} in {count(report.photos, 'photo')}, {seconds:.1f} s.")
        if report.kept:
            say(f"{kept_line(report.kept, report.objects)}.")
        if report.left_out:
            say(f"Left out, since the annotation file has no such category: {', '.join(report.left_out)}.")
        if report.unnamed:
            say(f"Left alone, since the annotation file does not name them: {count(report.unnamed, 'photo')}.")
        if report.missing:
            say(f"{count(report.missing, 'image')} of the annotation file not among the photos: count as missed.")
        folder = output.rstrip("/")
        if json:
            say(f"Masks      {folder}/results.json  (the detector's own: results_before.json)")
        if pictures:
            say(f"Pictures   {folder}/pictures")
        if table:
            say(f"Table      {folder}/photos.parquet")
    for failure in report.failures:
        complain(failure.reason)
    if report.failures:
        if len(report.failures) + report.photos > 1:
            say(f"{len(report.failures)} of {len(report.failures) + report.photos} photos could not be used.")
        raise typer.Exit(1)
