"""Labels of other programs: every format can be read and written, and what it cannot hold is counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import cast

from crispmask.coco import CocoDataset
from crispmask.coco.stream import JsonStream, open_stream
from crispmask.errors import DataError
from crispmask.files import relative_parts
from crispmask.formats.labels import Format, Hints, LabelledImage, Labels, Losses, Style, check_size

__all__ = [
    "FORMATS",
    "Format",
    "Hints",
    "LabelledImage",
    "Labels",
    "Losses",
    "Style",
    "convert",
    "find_format",
    "guess",
]

FORMATS = {
    "coco": "COCO annotations: one JSON file",
    "results": "COCO results: a JSON list of detections",
    "yolo": "YOLO segmentation: data.yaml and labels/*.txt",
    "labelme": "LabelMe: one JSON file per image",
    "cvat": "CVAT for images 1.1: one XML file",
    "png": "label maps: one PNG per image, and labels.json",
}
"""Description of each format, by the name of its module."""


def find_format(name: str) -> Format:
    """The module of a format.

    Raises:
        DataError: an unknown name.
    """
    if name not in FORMATS:
        raise DataError(f"unknown format {name!r}: there are {', '.join(FORMATS)}")
    return cast(Format, import_module(f"crispmask.formats.{name}"))


def guess(path: Path) -> str:
    """The format of a file or folder, a key of `FORMATS`.

    Raises:
        DataError: the path does not exist, or its content is of no known format.
    """
    if path.is_dir():
        if (path / "data.yaml").is_file():
            return "yolo"
        for pattern, name in (("*.png", "png"), ("*.json", "labelme")):
            if next(path.rglob(pattern), None):
                return name
        raise DataError(f"{path} holds labels in no known format ({', '.join(FORMATS)}): add --from")
    with open_stream(path) as file:
        stream = JsonStream(file, str(path))
        first = stream.peek()
        if first == "<":
            return "cvat"
        if first == "[":
            return "results"
        if first == "{":
            for name in stream.members():
                if name in ("shapes", "imagePath"):
                    return "labelme"
                if name in ("images", "annotations", "categories"):
                    return "coco"
                stream.skip()
    raise DataError(f"{path} holds labels in no known format ({', '.join(FORMATS)}): add --from")


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: str,
    source_format: str | None = None,
    images: str | Path | None = None,
    annotations: str | Path | None = None,
    style: Style | None = None,
) -> tuple[int, int, Losses]:
    """Read labels in one format and write them in another.

    Args:
        source: file or folder.
        target: file or folder to write; it appears only when it is complete. A folder must be new or empty.
        to: format to write, a key of `FORMATS`.
        source_format: by default what `guess` says.
        images: folder of the images, for formats that need their sizes; for the others, the sizes of the images that
            are there are compared with those that the labels state.
        annotations: COCO file that gives ids of images by file name and of categories by name.
        style: by default ``Style()``.

    Returns:
        Numbers of images and of objects that were read, and what could not be kept.

    Raises:
        DataError: labels that break their format, that the other one cannot hold, or with other sizes than the images.
    """
    source, target = Path(source), Path(target)
    hints = Hints(
        Path(images) if images else None,
        CocoDataset.from_file(annotations, annotations=False) if annotations else None,
    )
    if target.exists() and source.exists() and target.samefile(source):
        raise DataError(f"the output {target} is also the input: name another")
    losses, counts = Losses(), [0, 0]
    writer = find_format(to)
    labels = find_format(source_format or guess(source)).read(source, hints, losses)

    def counted() -> Iterator[LabelledImage]:
        for image in labels.images:
            counts[0] += 1
            counts[1] += len(image.instances)
            if hints.images:
                check_size(image.instances.image_size, hints.images.joinpath(*relative_parts(image.file_name)), source)
            yield image

    writer.write(replace(labels, images=counted()), target, style or Style(), losses)
    return counts[0], counts[1], losses
