"""``crispmask convert``: labels from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crispmask.cli.console import count, note, say, waiting
from crispmask.errors import DataError, ParamsError

FORMATS = "coco, results (COCO), yolo, labelme, cvat, png"


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Labels: a file or a folder.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File or new folder to write.")],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help=f"Format of OUT: {FORMATS}. By default coco, if OUT ends in .json.",
            show_default=False,
        ),
    ] = None,
    source_format: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FORMAT", help="Format of IN; by default detected from its content.", show_default=False
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "-i",
            "--images",
            metavar="DIR",
            help="Folder of the images. yolo needs it; the other formats are checked against the images' sizes.",
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            "-a", "--annotations", metavar="GT.json", help="COCO file to take the ids of images and categories from."
        ),
    ] = None,
    polygons: Annotated[bool, typer.Option("--polygons", help="Write polygons instead of run lengths (coco).")] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="PX", help="Highest distance of a polygon from its mask, pixels; 0 keeps the mask exactly."
        ),
    ] = 0.0,
) -> None:
    """Convert labels and detections between COCO, YOLO, LabelMe, CVAT and PNG label maps.

    What the new format cannot hold is counted and reported. OUT is written only when all of IN could be read.
    """
    if not 0 <= tolerance < 1000:
        raise ParamsError(f"tolerance must be a number of pixels, at least 0, got {tolerance:g}")
    if to is None:
        if target.suffix != ".json":
            raise DataError(f"add --to FORMAT, to choose the format of {target}: {FORMATS}")
        to = "coco"
    with waiting("Converting"):
        from crispmask.formats import Style
        from crispmask.formats import convert as run

        style = Style(tolerance=tolerance, polygons=polygons)
        found, objects, losses = run(
            source, target, to=to, source_format=source_format, images=images, annotations=annotations, style=style
        )
    say(f"{count(objects, 'object')} in {count(found, 'image')}: {target}")
    for what, times in losses.counts.items():
        note(f"Not kept: {times} {what}.")
