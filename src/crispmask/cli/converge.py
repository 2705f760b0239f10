"""``crispmask converge``: how many iterations mean field needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crispmask.cli.console import PREPARING, count, out, progress_bar, say, waiting
from crispmask.cli.crf import FixedParams, Threads, read_fixed_params
from crispmask.cli.options import options_from
from crispmask.errors import DataError, ParamsError
from crispmask.params import DEFAULT_SCORE, CRFParams

if TYPE_CHECKING:
    from crispmask.tuning.convergence.survey import Read


@options_from(CRFParams, "overrides", "CRF parameters (each overrides --params)")
def converge(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for tables and pictures.")],
    overrides: dict[str, Any],
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IMAGE...]", help="Images, folders, or glob patterns.", show_default=False),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option("-a", "--annotations", metavar="GT.json", help="For --results: which file is which image."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("-r", "--results", metavar="R.json", help="COCO results, in place of images to search."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("-i", "--images", metavar="DIR", help="For --results: folder of the images.")
    ] = None,
    detector: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="What finds the objects: 'embedded', or an ONNX file.")
    ] = "embedded",
    score: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Leave out detections below this score, 0 to 1; by default the detector says which. "
            f"[dim]\\[default for --results: {DEFAULT_SCORE}][/dim]",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[int, typer.Option(min=2, max=1000, metavar="N", help="Iterations to follow.")] = 30,
    sheets: Annotated[
        int, typer.Option(min=0, metavar="N", help="Images that get a contact sheet of their masks.")
    ] = 12,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Use only the first N images.", show_default=False)
    ] = None,
    params: FixedParams = "fixed",
    threads: Threads = None,
) -> None:
    """Show how mean field converges: KL(Q‖P) over the iterations, and the masks after each (extra 'tune').

    On images, in which the detector finds the objects, or on the detections of a COCO results file. Writes
    convergence.png, iterations.csv (quantiles over the objects), objects.csv (after how many iterations each mask
    is settled), and contact sheets.
    """
    chosen = read_fixed_params(params, overrides)
    with waiting("Loading"):
        from crispmask.detectors.selection import check_score
        from crispmask.plots import check_matplotlib
        from crispmask.tuning.convergence import summary
        from crispmask.tuning.convergence.survey import survey

        check_matplotlib()
        if score is not None:
            check_score(score)
        if output.exists() and not output.is_dir():
            raise DataError(f"the output {output} is a file: name a folder")
        if bool(sources) == (results is not None):
            raise ParamsError("give images, or --results with --annotations and --images, and not both")
        if results is not None:
            if annotations is None or images is None:
                raise ParamsError("--results needs --annotations and --images, which say where its images are")
            readers = _of_results(results, annotations, images, DEFAULT_SCORE if score is None else score)
        else:
            readers = _of_detector(sources or [], detector, score, threads)
        readers = dict(list(readers.items())[:limit])
    with progress_bar("image") as progress:
        from crispmask.pipeline import Settings, prepare

        bar = progress.add_task(PREPARING, total=None)
        prepare(Settings(params=chosen))
        progress.reset(bar, total=len(readers), description="Following")
        courses = survey(
            readers,
            chosen,
            follow,
            output / "sheets",
            sheets=sheets,
            threads=threads,
            on_image=lambda objects: progress.advance(bar),
        )
    if not courses:
        least = "that the detector is sure of" if score is None else f"with a score of {score} or more"
        raise DataError(f"there is no object {least} in {count(len(readers), 'image')}: lower --score")
    with waiting("Drawing"):
        summary.write_objects(output / "objects.csv", courses)
        summary.write_iterations(output / "iterations.csv", courses)
        draw = summary.draw_courses if len(readers) == 1 else summary.draw_quantiles
        draw(output / "convergence.png", courses, chosen.iterations)
    _show(summary.settling(courses, follow), follow, len(courses), len(readers))
    at = min(chosen.iterations, follow)
    left = sorted(course.unsettled[at] for course in courses)
    say(
        f"After {count(at, 'iteration')}, where the refinement stops, the median mask differs from the last by "
        f"{left[len(left) // 2]:.3%} of its pixels, the worst by {left[-1]:.2%}."
    )
    say(f"Picture       {output / 'convergence.png'}")
    say(f"Tables        {output / 'iterations.csv'}, {output / 'objects.csv'}")
    if sheets:
        say(f"Masks         {output / 'sheets'}")


def _of_detector(sources: list[str], name: str, score: float | None, threads: int | None) -> Mapping[str, Read]:

    from crispmask.detectors import load_detector
    from crispmask.image import find_images, read_image
    from crispmask.pipeline import Settings
    from crispmask.pipeline.naming import relative_names

    # The images run in parallel here.
    detector, _ = Settings(score=score).applied_to(load_detector(name, threads=1))

    def reading(path: Path) -> Read:
        def read() -> Any:
            image = read_image(path)
            return image, detector(image)

        return read

    return {name: reading(path) for name, path in relative_names(sources, find_images(sources)).items()}


def _of_results(results: Path, annotations: Path, images: Path, score: float) -> Mapping[str, Read]:
    from crispmask.coco import CocoDataset, read_results
    from crispmask.evaluation.detected_images import DetectedImages

    dataset = CocoDataset.from_file(annotations)
    detected = DetectedImages(dataset, read_results(results), images, score=score, source=str(results))

    def reading(image_id: int, numbers: list[int]) -> Read:
        return lambda: (detected.read(image_id), detected.instances(image_id, numbers))

    return {dataset.images[key].file_name: reading(key, numbers) for key, numbers in detected.by_image().items()}


def _show(quantiles: Mapping[str, Mapping[str, float]], follow: int, objects: int, images: int) -> None:
    from rich import box
    from rich.table import Table

    say(f"Iterations until a mask is settled, {count(objects, 'object')} of {count(images, 'image')}", style="bold")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    names = {"settled": "no label changes", "nearly_settled": "under 0.1 % change"}
    for quantile in quantiles["settled"]:
        table.add_column("median" if quantile == "q50" else f"{quantile[1:]} %", justify="right", no_wrap=True)
    for key, values in quantiles.items():
        table.add_row(names[key], *(f"> {follow}" if math.isinf(v) else f"{v:.0f}" for v in values.values()))
    out.print(table)
