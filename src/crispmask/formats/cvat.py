"""CVAT: its own XML, "CVAT for images 1.1", one file of images with their shapes.

Masks are run lengths along the rows of their box, the first run being background. Shapes of one label that share a
``group_id`` are parts of one object, as in CVAT's own export to COCO. Source: https://docs.cvat.ai, "XML annotation
format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from crispmask.coco import segmentation_to_mask
from crispmask.errors import CrispmaskError, DataError
from crispmask.files import relative_parts, replacing
from crispmask.formats.labels import (
    Hints,
    LabelledImage,
    Labels,
    Losses,
    Style,
    assemble,
    category_ids,
    numbered,
)
from crispmask.formats.polygons import outlines
from crispmask.image import refused_size
from crispmask.instances import Instances, Window

_AREAS = ("mask", "polygon", "box", "ellipse")
_NO_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot hold."""

Element = ElementTree.Element
Mask = NDArray[np.bool_]


def read(path: Path, hints: Hints, losses: Losses) -> Labels:
    """Shapes that enclose an area. The categories are the labels of the task in its order, then those that it lacks."""
    root = _root(path)
    elements = root.findall("image")
    if root.find("track") is not None:
        raise DataError(f"{path} holds tracks of a video: export the task from CVAT as 'CVAT for images 1.1'")
    shapes = [_objects(path, image, losses) for image in elements]
    named = [name.text or "" for name in root.iterfind("meta//labels/label/name")]
    used = sorted({label for objects in shapes for label, _ in objects})
    categories = dict(enumerate(dict.fromkeys([*named, *used]), start=1))
    ids = category_ids(categories, hints.dataset, path)
    id_of = {name: ids[k] for k, name in categories.items()}
    names = ["/".join(relative_parts(_text(path, image, "name"))) for image in elements]

    def images() -> Iterator[LabelledImage]:
        for image, objects, (key, name) in zip(elements, shapes, numbered(names, hints.dataset, path), strict=True):
            where = f"{path}: image {name!r}"
            size = _whole(where, image, "height"), _whole(where, image, "width")
            reason = "no pixels" if min(size) < 1 else refused_size(*size)
            if reason:
                raise DataError(f"{where}: {size[1]}x{size[0]} pixels, {reason}: correct the size, or scale it down")
            parts = [Instances.from_masks(_union(where, found, size)) for _, found in objects]
            instances = assemble(size, parts, [id_of[label] for label, _ in objects])
            yield LabelledImage(key, name, instances, (False,) * len(parts))

    return Labels(hints.dataset.categories if hints.dataset else categories, images())


def write(labels: Labels, path: Path, style: Style, losses: Losses) -> None:
    """One XML file, to be uploaded as annotations of a task with these images."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        file.write("  <meta>\n    <task>\n      <labels>\n")
        for name in labels.categories.values():
            label = f"<label><name>{escape(_checked(name))}</name><attributes></attributes></label>"
            file.write(f"        {label}\n")
        file.write("      </labels>\n    </task>\n  </meta>\n")
        for k, image in enumerate(labels.images):
            height, width = image.instances.image_size
            file_name = quoteattr(_checked("/".join(relative_parts(image.file_name))))
            file.write(f'  <image id="{k}" name={file_name} width="{width}" height="{height}">\n')
            for i in range(len(image.instances)):
                for line in _shapes(image, i, labels, style, losses):
                    file.write(f"    {line}\n")
            file.write("  </image>\n")
        file.write("</annotations>\n")


def _shapes(image: LabelledImage, i: int, labels: Labels, style: Style, losses: Losses) -> Iterator[str]:
    """The elements of one object."""
    window = image.instances.windows[i]
    if image.crowds[i]:
        losses.add("crowd regions left out: CVAT has none")
        return
    if not window.mask.any():
        losses.add("empty masks left out: CVAT has no shape for them")
        return
    losses.add("scores left out: CVAT has none", int(image.instances.scores[i] != 1))
    name = quoteattr(_checked(labels.categories[int(image.instances.category_ids[i])]))
    common = f'label={name} source="manual" occluded="0"'
    if not style.polygons:
        x, y, width, height, runs = _runs(window)
        place = f'left="{x}" top="{y}" width="{width}" height="{height}"'
        yield f'<mask {common} rle="{", ".join(map(str, runs))}" {place} z_order="0"></mask>'
        return
    parts = outlines(window, style.tolerance)
    losses.add("holes filled: CVAT's polygons have none", sum(len(rings) - 1 for rings in parts))
    group = f' group_id="{i + 1}"' if len(parts) > 1 else ""
    for rings in parts:
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in rings[0].tolist())
        yield f'<polygon {common} points="{points}" z_order="0"{group}></polygon>'


def _runs(window: Window) -> tuple[int, int, int, int, list[int]]:
    """Left, top, width and height of a mask's box, and the run lengths along its rows, background first."""
    inner = Window(window.mask.astype(np.float32), window.y, window.x).cropped_to_mask()
    flat = np.concatenate([[False], inner.mask.ravel()])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], ends, [len(flat) - 1]]))
    return inner.x, inner.y, inner.width, inner.height, runs.tolist()


def _root(path: Path) -> Element:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file in UTF-8") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder: name CVAT's file annotations.xml") from None
    if "<!DOCTYPE" in text:  # in which entities could be declared that grow without limit
        raise DataError(f"{path} declares a document type, which CVAT's files do not")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is not valid XML: {error}") from None
    if root.tag != "annotations":
        raise DataError(f"{path} is not a CVAT file: its root is {root.tag!r}, expected 'annotations'")
    return root


def _objects(path: Path, image: Element, losses: Losses) -> list[tuple[str, list[Element]]]:
    """Label and shapes of every object of an image."""
    grouped: dict[tuple[str, object], list[Element]] = {}
    for k, shape in enumerate(image):
        if shape.tag in ("tag", "attribute"):
            continue
        if shape.tag not in _AREAS:
            losses.add(f"shapes of type {shape.tag} left out: they enclose no area")
            continue
        group = shape.get("group_id")
        grouped.setdefault((_text(path, shape, "label"), group if group not in (None, "0") else k), []).append(shape)
    return [(label, shapes) for (label, _), shapes in grouped.items()]


def _union(where: str, shapes: list[Element], size: tuple[int, int]) -> Mask:
    """The union of an object's shapes: bool (H, W)."""
    mask = np.zeros(size, bool)
    for shape in shapes:
        try:
            mask |= _area(where, shape, size)
        except CrispmaskError as error:
            raise DataError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None
    return mask


def _area(where: str, shape: Element, size: tuple[int, int]) -> Mask:
    if shape.tag == "mask":
        return _mask(where, shape, size)
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in _text(where, shape, "points").split(";")]
        if any(len(pair) != 2 for pair in pairs):
            raise DataError(f"{where}: the points of a polygon must be x,y;x,y;...")
        return segmentation_to_mask([[_number(where, v, "a coordinate") for pair in pairs for v in pair]], *size)
    if shape.tag == "box":
        x0, y0, x1, y1 = (_number(where, _text(where, shape, name), name) for name in ("xtl", "ytl", "xbr", "ybr"))
        return segmentation_to_mask([[x0, y0, x1, y0, x1, y1, x0, y1]], *size)
    cx, cy, rx, ry = (_number(where, _text(where, shape, name), name) for name in ("cx", "cy", "rx", "ry"))
    if rx <= 0 or ry <= 0:
        raise DataError(f"{where}: the radii of an ellipse must be above 0, got {rx} and {ry}")
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    with np.errstate(over="ignore"):
        inside: Mask = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
    return inside


def _mask(where: str, shape: Element, size: tuple[int, int]) -> Mask:
    """The mask of run lengths: bool (H, W)."""
    x, y, width, height = (_whole(where, shape, name) for name in ("left", "top", "width", "height"))
    if width < 1 or height < 1 or x + width > size[1] or y + height > size[0]:
        raise DataError(f"{where}: a mask extends beyond the image of {size[0]}x{size[1]} pixels (height x width)")
    text = _text(where, shape, "rle")
    try:
        runs = np.array([int(run) for run in text.split(",")], np.int64)
    except (ValueError, OverflowError):
        raise DataError(f"{where}: the rle of a mask must be whole numbers with commas between") from None
    total = width * height
    if (runs < 0).any() or (runs > total).any() or int(runs.sum()) != total:
        raise DataError(f"{where}: the runs of a mask must add up to its {width}x{height} pixels")
    mask = np.zeros(size, bool)
    inner = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask[y : y + height, x : x + width] = inner.reshape(height, width)
    return mask


def _text(where: object, element: Element, name: str) -> str:
    value = element.get(name)
    if not value:
        raise DataError(f"{where}: <{element.tag}> has no {name!r}")
    return value


def _whole(where: str, element: Element, name: str) -> int:
    text = _text(where, element, name)
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise DataError(f"{where}: {name!r} must be a whole number, got {text[:40]!r}")
    return int(text)


def _number(where: str, text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise DataError(f"{where}: {name} must be a finite number, got {text[:40]!r}")
    return value


def _checked(name: str) -> str:
    """A name that XML can hold."""
    if _NO_TEXT.search(name):
        raise DataError(f"the name {name!r} has characters that XML cannot hold: rename it")
    return name
