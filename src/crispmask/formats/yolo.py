"""YOLO segmentation (Ultralytics): ``data.yaml`` with the names, and ``labels/PHOTO.txt`` with a line per object.

A line is ``class x1 y1 x2 y2 ...``, coordinates as fractions of the photo's width and height; a last odd number is a
score. A line holds one ring, so that holes and further parts are joined to it by lines without width, as Ultralytics'
own converter does with parts. Source: https://docs.ultralytics.com/datasets/segment/
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

DIGITS = 6
"""Of a coordinate: a millionth of the width is less than a hundredth of a pixel of any photo."""


def read(path: Path, hints: Hints, losses: Losses) -> Labels:
    """Labels of every photo in the folder of the photos; one without a label file has no objects."""
    if hints.photos is None:
        raise DataError(f"{path} does not hold the sizes of its photos: add --images DIR")
    photos = {photo.relative_to(hints.photos).as_posix(): photo for photo in find_images([hints.photos])}
    names = _names(path / "data.yaml")
    ids = category_ids(names, hints.dataset, path)
    files = {file.relative_to(path / "labels").as_posix() for file in (path / "labels").rglob("*.txt")}
    foreign = files - {Path(name).with_suffix(".txt").as_posix() for name in photos}
    if foreign:
        raise DataError(f"{path / 'labels' / min(foreign)} belongs to no photo in {hints.photos}")

    def images() -> Iterator[LabelledImage]:
        named = numbered(photos, hints.dataset, path)
        for (name, photo), (key, file_name) in zip(photos.items(), named, strict=True):
            found = _objects((path / "labels" / name).with_suffix(".txt"), read_size(photo), ids)
            yield LabelledImage(key, file_name, found, (False,) * len(found))

    categories = hints.dataset.categories if hints.dataset else names
    return Labels(categories, images())


def write(labels: Labels, path: Path, style: Style, losses: Losses) -> None:
    """A folder for ``yolo segment train data=OUT/data.yaml``, once the photos are in ``OUT/images``."""
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
    """The line of an object, empty where YOLO has no way to write it."""
    parts = outlines(image.instances.windows[i], style.tolerance)
    if image.crowds[i]:
        losses.add("crowd regions left out: YOLO has none")
        return ""
    if not parts:
        losses.add("empty masks left out: YOLO has no line for them")
        return ""
    losses.add("scores left out: labels have none", int(image.instances.scores[i] != 1))
    losses.add("objects of several parts joined by lines without width", int(len(parts) > 1))
    losses.add("objects with holes: cut open by lines without width", int(any(len(rings) > 1 for rings in parts)))
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
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise DataError(f"{file} is not valid YAML") from None
    found: Any = content.get("names") if isinstance(content, dict) else None
    if isinstance(found, list):
        found = dict(enumerate(found))
    if not isinstance(found, dict) or not all(isinstance(k, int) and k >= 0 for k in found):
        raise DataError(f"{file}: 'names' must list the classes")
    return {k: str(found[k]) for k in sorted(found)}
