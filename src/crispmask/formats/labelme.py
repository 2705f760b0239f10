"""LabelMe: a JSON file per image, of shapes with a label.

Parts of one object share a ``group_id``. An object with holes is written as a shape of type ``mask`` (LabelMe 5.2 and
later), which keeps every pixel; all others as polygons. Source: https://github.com/wkentaro/labelme
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.coco import segmentation_to_mask
from crispmask.coco.records import number, read_json, whole
from crispmask.coco.results import SCORE_DIGITS
from crispmask.errors import CrispmaskError, DataError
from crispmask.files import relative_parts, replacing_folder
from crispmask.formats.labels import (
    Hints,
    LabelFiles,
    LabelledImage,
    Labels,
    Losses,
    Style,
    assemble,
    category_ids,
    check_size,
    numbered,
)
from crispmask.formats.polygons import outlines
from crispmask.image import refused_size
from crispmask.instances import Instances

VERSION = "5.5.0"
"""LabelMe's version, as the files that are written state it."""

_AREAS = ("polygon", "rectangle", "circle", "mask")


def read(path: Path, hints: Hints, losses: Losses) -> Labels:
    """Shapes that enclose an area, not points and lines. The categories are the labels, in alphabetical order."""
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no JSON file")
    found: set[str] = set()
    names = []
    for file in files:
        content = _content(file)
        image = content.get("imagePath")
        if not isinstance(image, str) or not image:
            raise DataError(f"{file}: 'imagePath' must be the name of the image, got {image!r}")
        found.update(label for label, _ in _objects(file, content, Losses()))
        # imagePath is relative to its file and often leads one folder up; the image is named after the file's folder.
        base = path if path.is_dir() else path.parent
        leaf = image.replace("\\", "/").rpartition("/")[2]
        names.append((file.parent.relative_to(base) / "/".join(relative_parts(leaf))).as_posix())
    categories = dict(enumerate(sorted(found), start=1))
    ids = category_ids(categories, hints.dataset, path)
    id_of = {name: ids[k] for k, name in categories.items()}

    def images() -> Iterator[LabelledImage]:
        for file, (key, name) in zip(files, numbered(names, hints.dataset, path), strict=True):
            content = _content(file)
            size = whole(content, "imageHeight", str(file), 1), whole(content, "imageWidth", str(file), 1)
            reason = refused_size(*size)
            if reason:
                raise DataError(f"{file}: {size[1]}x{size[0]} pixels, {reason}: scale the image and its shapes down")
            check_size(size, file.parent / content["imagePath"].replace("\\", "/"), file)
            _check_embedded(size, content.get("imageData"), file)
            objects = _objects(file, content, losses)
            parts = [Instances.from_masks(_mask(file, shapes, size)) for _, shapes in objects]
            scores = [float(shapes[0][1].get("score") or 1.0) for _, shapes in objects]
            instances = assemble(size, parts, [id_of[label] for label, _ in objects], scores)
            crowds = tuple(bool((shapes[0][1].get("flags") or {}).get("iscrowd")) for _, shapes in objects)
            yield LabelledImage(key, name, instances, crowds)

    return Labels(hints.dataset.categories if hints.dataset else categories, images())


def write(labels: Labels, path: Path, style: Style, losses: Losses) -> None:
    """A folder of JSON files; LabelMe expects each image in the folder of its file."""
    files = LabelFiles(".json")
    with replacing_folder(path) as partial:
        for image in labels.images:
            file = partial / files.name(image.file_name)
            file.parent.mkdir(parents=True, exist_ok=True)
            shapes = [s for i in range(len(image.instances)) for s in _shapes(image, i, labels, style, losses)]
            height, width = image.instances.image_size
            content: dict[str, Any] = {
                "version": VERSION,
                "flags": {},
                "shapes": shapes,
                "imagePath": image.file_name.replace("\\", "/").rpartition("/")[2],
                "imageData": None,
                "imageHeight": height,
                "imageWidth": width,
            }
            file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8", newline="\n")


def _shapes(image: LabelledImage, i: int, labels: Labels, style: Style, losses: Losses) -> list[dict[str, Any]]:
    window, score = image.instances.windows[i], float(image.instances.scores[i])
    parts = outlines(window, style.tolerance)
    if not parts:
        losses.add("empty masks left out: LabelMe has no shape for them")
        return []
    common: dict[str, Any] = {
        "label": labels.categories[int(image.instances.category_ids[i])],
        "group_id": i + 1 if len(parts) > 1 else None,
        "description": "",
        "flags": {"iscrowd": True} if image.crowds[i] else {},
    }
    if score != 1:
        common["score"] = round(score, SCORE_DIGITS)
    if any(len(rings) > 1 for rings in parts):
        inner = window.cropped_to_mask()
        stream = io.BytesIO()
        Image.fromarray(inner.mask).save(stream, "PNG")
        # LabelMe's corners are pixels, the second one included.
        corners = [[inner.x, inner.y], [inner.x + inner.width - 1, inner.y + inner.height - 1]]
        encoded = base64.b64encode(stream.getvalue()).decode()
        return [{**common, "group_id": None, "shape_type": "mask", "points": corners, "mask": encoded}]
    return [{**common, "shape_type": "polygon", "points": ring.round(2).tolist(), "mask": None} for (ring,) in parts]


def _content(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(f"{file} is not a LabelMe file: it must hold a list of 'shapes'")
    return content


def _check_embedded(size: tuple[int, int], data: Any, file: Path) -> None:
    """DataError if the image that is embedded in the file has another size; one that cannot be read is not needed."""
    if not isinstance(data, str):
        return
    try:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return
    if (height, width) != size:
        raise DataError(
            f"{file} says that its image has {size[0]}x{size[1]} pixels (height x width), but the image embedded in it "
            f"has {height}x{width}"
        )


def _objects(file: Path, content: dict[str, Any], losses: Losses) -> list[tuple[str, list[tuple[int, dict[str, Any]]]]]:
    """Label and numbered shapes of every object."""
    grouped: dict[Any, tuple[str, list[tuple[int, dict[str, Any]]]]] = {}
    for k, shape in enumerate(content["shapes"]):
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise DataError(f"{file}: shape {k} must be an object with a 'label'")
        kind, group = shape.get("shape_type") or "polygon", shape.get("group_id")
        if kind not in _AREAS:
            losses.add(f"shapes of type {kind} left out: they enclose no area")
            continue
        key = (shape["label"], group) if isinstance(group, int) else ("", "alone", k)
        grouped.setdefault(key, (shape["label"], []))[1].append((k, shape))
    return list(grouped.values())


def _mask(file: Path, shapes: list[tuple[int, dict[str, Any]]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The union of an object's shapes: bool (H, W)."""
    mask = np.zeros(size, bool)
    for k, shape in shapes:
        where = f"{file}: shape {k}"
        try:
            points = np.array([[number(v, "a coordinate", where) for v in point] for point in shape["points"]]).reshape(
                -1, 2
            )
        except CrispmaskError:
            raise
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{where}: 'points' must be a list of [x, y]") from None
        try:
            mask |= _area(shape, points, size)
        except CrispmaskError as error:
            raise DataError(f"{where}: {error}") from None
    return mask


def _area(shape: dict[str, Any], points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    kind = shape.get("shape_type") or "polygon"
    if kind == "polygon":
        return segmentation_to_mask([points.ravel().tolist()], *size)
    if len(points) != 2:
        raise DataError(f"a {kind} needs 2 points, got {len(points)}")
    (xa, ya), (xb, yb) = points.tolist()
    if kind == "rectangle":
        return segmentation_to_mask([[xa, ya, xb, ya, xb, yb, xa, yb]], *size)
    if kind == "circle":  # centre, and a point on the line
        y, x = np.mgrid[: size[0], : size[1]] + 0.5
        return (x - xa) ** 2 + (y - ya) ** 2 < (xb - xa) ** 2 + (yb - ya) ** 2
    mask = np.zeros(size, bool)
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"])), formats=("PNG",)) as picture:
            if picture.width * picture.height > size[0] * size[1]:
                raise DataError("the mask is larger than the image")
            inner = np.asarray(picture.convert("L")) > 0
    except CrispmaskError:
        raise
    except (KeyError, TypeError, OSError, SyntaxError, ValueError, binascii.Error):
        raise DataError("'mask' must be a PNG in base64") from None
    x0, y0 = round(min(xa, xb)), round(min(ya, yb))
    if x0 < 0 or y0 < 0 or y0 + inner.shape[0] > size[0] or x0 + inner.shape[1] > size[1]:
        raise DataError(f"the mask extends beyond the image of {size[0]}x{size[1]} pixels (height x width)")
    mask[y0 : y0 + inner.shape[0], x0 : x0 + inner.shape[1]] = inner
    return mask
