"""YOLO segmentation (Ultralytics): ``data.yaml`` with the names, and ``labels/IMAGE.txt`` with a line per object.

A line is ``class x1 y1 x2 y2 ...``, with coordinates as fractions of the image's width and height, and optionally a
score at its end. A line holds one ring; holes and further parts are joined to it by lines of zero width, as
Ultralytics' own converter does with parts. Source: https://docs.ultralytics.com/datasets/segment/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crispmask.coco import segmentation_to_mask
from crispmask.errors import CrispmaskError, DataError
from crispmask.files import replacing_folder
from crispmask.formats.labels import (
    Hints,
    LabelFiles,
    LabelledImage,
    Labels,
    Losses,
    Style,
    assemble,
    category_ids,
    numbered,
)
from crispmask.formats.polygons import joined, outlines
from crispmask.image import find_images, read_size
from crispmask.instances import Instances
from crispmask.structured import read_yaml

DIGITS = 6
"""Of a coordinate: a millionth of the width is less than a hundredth of a pixel of any image."""


def read(path: Path, hints: Hints, losses: Losses) -> Labels:
    """Labels of every image in `hints.images`; an image without a label file has no objects."""
    if hints.images is None:
        raise DataError(f"{path} does not hold the sizes of its images: add --images DIR")
    found = {file.relative_to(hints.images).as_posix(): file for file in find_images([hints.images])}
    names = _names(path / "data.yaml")
    ids = category_ids(names, hints.dataset, path)
    files = {file.relative_to(path / "labels").as_posix() for file in (path / "labels").rglob("*.txt")}
    foreign = files - {Path(name).with_suffix(".txt").as_posix() for name in found}
    if foreign:
        raise DataError(f"{path / 'labels' / min(foreign)} belongs to no image in {hints.images}")

    def images() -> Iterator[LabelledImage]:
        named = numbered(found, hints.dataset, path)
        for (name, image), (key, file_name) in zip(found.items(), named, strict=True):
            objects = _objects((path / "labels" / name).with_suffix(".txt"), read_size(image), ids)
            yield LabelledImage(key, file_name, objects, (False,) * len(objects))

    categories = hints.dataset.categories if hints.dataset else names
    return Labels(categories, images())


def write(labels: Labels, path: Path, style: Style, losses: Losses) -> None:
    """A folder for ``yolo segment train data=OUT/data.yaml``, once the images are in ``OUT/images``."""
    classes = {key: k for k, key in enumerate(labels.categories)}
    files = LabelFiles(".txt")
    with replacing_folder(path) as partial:
        for image in labels.images:
            file = partial / "labels" / files.name(image.file_name)
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = [_line(image, i, classes, style, losses) for i in range(len(image.instances))]
            file.write_text("".join(lines), encoding="utf-8", newline="\n")
        names = "".join(f"  {k}: {json.dumps(labels.categories[key])}\n" for key, k in classes.items())
        content = f"path: {json.dumps(str(path.absolute()))}\ntrain: images\nval: images\nnames:\n{names}"
        (partial / "data.yaml").write_text(content, encoding="utf-8", newline="\n")


def _line(image: LabelledImage, i: int, classes: Mapping[int, int], style: Style, losses: Losses) -> str:
    """The line of an object; empty for what YOLO cannot express."""
    parts = outlines(image.instances.windows[i], style.tolerance)
    if image.crowds[i]:
        losses.add("crowd regions left out: YOLO has none")
        return ""
    if not parts:
        losses.add("empty masks left out: YOLO has no line for them")
        return ""
    losses.add("scores left out: labels have none", int(image.instances.scores[i] != 1))
    losses.add("objects of several parts, joined by lines of zero width", int(len(parts) > 1))
    losses.add(
        "objects with holes, joined to their outlines by lines of zero width",
        int(any(len(rings) > 1 for rings in parts)),
    )
    height, width = image.instances.image_size
    corners = joined([ring for rings in parts for ring in rings]) / (width, height)
    numbers = " ".join(f"{v:.{DIGITS}f}".rstrip("0").rstrip(".") for v in corners.ravel())
    return f"{classes[int(image.instances.category_ids[i])]} {numbers}\n"


def _objects(file: Path, size: tuple[int, int], ids: Mapping[int, int]) -> Instances:
    """The objects of a label file; none where there is no file."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return Instances.empty(size)
    except UnicodeDecodeError:
        raise DataError(f"{file} is not a text file in UTF-8") from None
    masks, categories, scores = [], [], []
    for k, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{file}: line {k}"
        try:
            first, *rest = line.split()
            number, values = int(first), np.array([float(v) for v in rest])
        except ValueError:
            raise DataError(f"{where}: expected a class number and coordinates, got {line[:40]!r}") from None
        if number not in ids:
            raise DataError(f"{where}: there is no class {number} in data.yaml")
        if len(values) == 4:
            raise DataError(f"{where} is a box, not a polygon: segmentation labels are needed")
        score = 1.0
        if len(values) % 2:
            score, values = float(values[-1]), values[:-1]
        if not 0 <= score <= 1:
            raise DataError(f"{where}: the score must be in [0, 1], got {score}")
        try:
            mask = segmentation_to_mask([(values.reshape(-1, 2) * (size[1], size[0])).ravel().tolist()], *size)
        except CrispmaskError as error:
            raise DataError(f"{where}: {error}") from None
        # One at a time: what is kept is the part that is not empty.
        masks.append(Instances.from_masks(mask))
        categories.append(ids[number])
        scores.append(score)
    return assemble(size, masks, categories, scores)


def _names(file: Path) -> dict[int, str]:
    """The classes of a data.yaml, whose ``names`` is a list or a mapping."""
    content = read_yaml(file)
    found: Any = content.get("names") if isinstance(content, dict) else None
    if isinstance(found, list):
        found = dict(enumerate(found))
    if not isinstance(found, dict) or not all(isinstance(k, int) and k >= 0 for k in found):
        raise DataError(f"{file}: 'names' must list the classes")
    return {k: str(found[k]) for k in sorted(found)}
