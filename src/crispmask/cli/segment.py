"""``crispmask segment``: images in, masks and pictures out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crispmask.cli.cluster import Address, Engine, Gpus, ImagesPerFile, Json, on_ray, only
from crispmask.cli.console import complain, count, say, waiting
from crispmask.cli.crf import PANEL, Joint, Params, Restart, Threads, left_alone_line, read_params
from crispmask.cli.models import ensure_weights
from crispmask.cli.options import options_from
from crispmask.cli.resumable import Resumable
from crispmask.params import CRFParams

if TYPE_CHECKING:
    from crispmask.detectors import Detector
    from crispmask.pipeline import Progress, SegmentReport, Settings

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE", help="Images, folders, or glob patterns; with --engine ray also URLs and manifests."
    ),
]
DetectorName = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="What finds the objects: 'embedded', another name of 'crispmask models list', an ONNX file, or a "
        "torchvision checkpoint (.pt).",
    ),
]
Score = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Drop detections below this score, 0 to 1; by default the detector says which.",
        show_default=False,
    ),
]
ClassNames = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="NAME,...",
        help="Only these classes, by name or category id; 'crispmask models classes' lists them. "
        "[dim]\\[default: all][/dim]",
        show_default=False,
    ),
]
Tiles = Annotated[
    int,
    typer.Option(
        min=1,
        max=16,
        metavar="N",
        help="For small objects: look at N x N overlapping tiles of the image too; 2 takes the detector five times as "
        "long.",
    ),
]
Annotations = Annotated[
    Path | None,
    typer.Option(
        metavar="GT.json",
        help="COCO annotation file that gives the image ids by file name: a whole data set, with its folder as SOURCE.",
    ),
]
Pictures = Annotated[
    bool | None,
    typer.Option(
        "--pictures/--no-pictures",
        help="Write before/after pictures. [dim]\\[default: pictures][/dim]",
        show_default=False,
    ),
]
Cutouts = Annotated[
    bool, typer.Option("--cutouts", help="Also write each object as a PNG with a transparent background.")
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where to work: cpu, cuda (detector and refinement; needs torch), or mps (torchvision's detectors only); "
        "by default the CPU, and for ONNX files the GPU where ONNX Runtime has one.",
        show_default=False,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Remove the results of another run that are in DIR, instead of refusing.")
]


@options_from(CRFParams, "overrides", PANEL)
def segment(
    sources: Sources,
    output: Annotated[str, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results.")],
    overrides: dict[str, Any],
    detector: DetectorName = "embedded",
    score: Score = None,
    classes: ClassNames = None,
    tiles: Tiles = 1,
    params: Params = "learned",
    refine: Annotated[bool, typer.Option("--refine/--no-refine", help="Refine the detector's masks.")] = True,
    joint: Joint = False,
    annotations: Annotations = None,
    pictures: Pictures = None,
    cutouts: Cutouts = False,
    threads: Threads = None,
    device: Device = None,
    half: Annotated[bool, typer.Option("--half", help="Half precision, for torchvision's detectors on a GPU.")] = False,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Images that the detector, and with --device cuda the refinement, gets at once; faster on a GPU.",
        ),
    ] = 1,
    restart: Restart = False,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    address: Address = None,
    images_per_file: ImagesPerFile = None,
    gpus: Gpus = None,
    json: Json = None,
) -> None:
    """Find objects in images and pull their masks onto the real edges.

    Writes results.json (refined masks) and results_before.json (the detector's own) as COCO results,
    images.json (which image id is which image), provenance.json (what made them from what), and before/after
    pictures; with --cutouts, each object alone as a PNG. A run that was interrupted continues where it stopped.
    """
    chosen = read_params(params, overrides)
    if engine == "ray":
        batch = batch_size if batch_size > 1 else None
        local = {"pictures": pictures or None, "cutouts": cutouts or None, "half": half or None, "batch_size": batch}
        only("local", threads=threads, **local)
        from crispmask.pipeline import Settings
        from crispmask.pipeline.ray import segment_on_ray

        settings = Settings(chosen, score, refine, joint, classes, tiles)
        result, seconds = on_ray(
            lambda show: segment_on_ray(
                sources,
                output,
                detector,
                settings,
                address=address,
                annotations=annotations,
                images_per_file=images_per_file or 100,
                device=device,
                gpus=gpus,
                json=json is not False,
                restart=restart,
                overwrite=overwrite,
                on_progress=show,
            ),
            "image",
            settings,
            address,
        )
        conclude(result, seconds, output, json=json is not False, table=True)
        return
    only("ray", address=address, images_per_file=images_per_file, gpus=gpus, json=json)
    ensure_weights(detector)
    with waiting("Loading the detector"):
        from crispmask.detectors import load_detector
        from crispmask.pipeline import CutoutStyle, Settings
        from crispmask.pipeline.segmenter import refining_on

        settings = Settings(chosen, score, refine, joint, classes, tiles)
        place = refining_on(device) if refine else None
        loaded = load_detector(detector, threads=threads or 0, device=device, half=half)
    report, seconds = segment_locally(
        sources,
        output,
        loaded,
        settings,
        annotations=annotations,
        pictures=pictures is not False,
        cutouts=CutoutStyle() if cutouts else None,
        threads=threads,
        device=place,
        batch_size=batch_size,
        restart=restart,
        overwrite=overwrite,
    )
    conclude(report, seconds, output, pictures=pictures is not False, cutouts=cutouts)


def segment_locally(
    sources: list[str], output: str, detector: Detector, settings: Settings, **options: Any
) -> tuple[SegmentReport, float]:
    """`segment_folder` with a progress bar: its report, and the seconds it took."""
    from crispmask.pipeline import segment_folder

    with Resumable("image", "Looking for images") as work:

        def show(step: Progress) -> None:
            doing = "Segmenting" if step.path is None else count(step.objects, "object")
            if step.within is not None and step.path is not None:
                doing = f"{step.path.name}: {step.within[0]} of {count(step.within[1], 'object')}"
            work.show(step, doing, settings)

        report = segment_folder(sources, output, detector, settings, on_image=show, **options)
    return report, work.seconds


def conclude(
    report: SegmentReport,
    seconds: float,
    output: str,
    *,
    json: bool = True,
    pictures: bool = False,
    cutouts: bool = False,
    table: bool = False,
) -> None:
    """Say what was done and where it is, complain about what was not, and exit with 1 where there is such."""
    if report.images:
        say(f"{count(report.objects, 'object')} in {count(report.images, 'image')}, {seconds:.1f} s.")
        if not report.objects:
            say(
                f"The detector looks for {some_of(report.categories, 6)}, with a score of {report.settings.score:g} or "
                "more: lower --score, or choose another --detector."
            )
        for line in notes(report):
            say(line)
        folder = output.rstrip("/")
        if json:
            say(f"Masks      {folder}/results.json  (the detector's own: results_before.json)")
        if pictures:
            say(f"Pictures   {folder}/pictures")
        if cutouts and report.objects:
            say(f"Cut-outs   {folder}/cutouts")
        if table:
            say(f"Table      {folder}/images.parquet")
    for failure in report.failures:
        complain(failure.reason)
    if report.failures:
        if len(report.failures) + report.images > 1:
            say(f"{len(report.failures)} of {len(report.failures) + report.images} images could not be used.")
        raise typer.Exit(1)


def notes(report: SegmentReport) -> Iterable[str]:
    """What the user should know about the results, a line each."""
    from crispmask.image import describe_unread

    if report.left_alone:
        yield f"{left_alone_line(report.left_alone, report.objects)}."
    if report.left_out:
        yield f"Left out, since the annotation file has no such category: {', '.join(report.left_out)}."
    if report.unnamed:
        yield f"Left out, since the annotation file does not name them: {count(report.unnamed, 'image')}."
    if report.missing:
        yield f"{count(report.missing, 'image')} of the annotation file not found: evaluation counts them as missed."
    if report.unread:
        yield f"Left out, since their format cannot be read: {describe_unread(report.unread)}."
    if report.animated:
        files = count(len(report.animated), "file")
        yield f"Only the first frame or page was used of {files} with several: {some_of(report.animated, 3)}."


def some_of(names: Iterable[str], most: int) -> str:
    """The first names, and how many more there are."""
    named = list(names)
    return ", ".join(named[:most]) + (f" and {len(named) - most} more" if len(named) > most else "")
