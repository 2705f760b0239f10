"""``crispmask convert``: labels from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crispmask.cli.console import count, note, say, waiting
from crispmask.errors import DataError, ParamsError

FORMATS = "coco, results (COCO), yolo, labelme, png"


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Labels: a file or a folder.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File or new folder to write.")],
    to: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help=f"{FORMATS}; by default coco for OUT.json.", show_default=False),
    ] = None,
    source_format: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FORMAT", help="The same for IN; by default by its content.", show_default=False
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("-i", "--images", metavar="DIR", help="Folder of the photos, which yolo needs for their sizes."),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            "-a", "--annotations", metavar="GT.json", help="COCO file that gives the ids of images and categories."
        ),
    ] = None,
    polygons: Annotated[bool, typer.Option("--polygons", help="In coco, polygons in place of run lengths.")] = False,
    tolerance: Annotated[
        float, typer.Option(metavar="PX", help="How far polygons may lie off the masks, pixels; 0: not at all.")
    ] = 0.0,
) -> None:
    """Convert labels and detections between the formats that people use.

    What the other format cannot hold is counted and said. OUT is there only when it is complete.
    """
    if not 0 <= tolerance < 1000:
        raise ParamsError(f"tolerance must be a number of pixels, at least 0, got {tolerance:g}")
    if to is None:
        if target.suffix != ".json":
            raise DataError(f"add --to FORMAT, which says what {target} shall be: {FORMATS}")
        to = "coco"
    with waiting("Converting"):
        from crispmask.formats import Style
        from crispmask.formats import convert as run

        style = Style(tolerance=tolerance, polygons=polygons)
        photos, objects, losses = run(
            source, target, to=to, source_format=source_format, photos=images, annotations=annotations, style=style
        )
    say(f"{count(objects, 'object')} in {count(photos, 'photo')}: {target}")
    for what, times in losses.counts.items():
        note(f"Not kept: {times} {what}.")
