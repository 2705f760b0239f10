"""Regions of Label Studio as masks, and masks as regions.

Coordinates are percentages of the photo's width and height. A rectangle is turned around its first corner, clockwise,
in degrees. Source: https://labelstud.io/guide/task_format
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispmask.arguments import number
from crispmask.coco import segmentation_to_mask
from crispmask.errors import DataError
from crispmask.formats.polygons import joined, outlines
from crispmask.instances import Instances, Window
from crispmask.integrations.label_studio import brush
from crispmask.refinement.crops import CORNER, INSIDE
from crispmask.refinement.prompts import from_boxes

GEOMETRY = ("closed", "format", "height", "maskDataURL", "points", "rle", "rotation", "width", "x", "y")
"""What a value says about where the region is; the rest says what it is."""

_PREDICTED = 0.5  # a score below 1 says that a model made the mask: it is refined whatever the gate says


class Shape(NamedTuple):
    """Where a region is, as the refinement takes it.

    Attributes:
        instance: one object.
        from_box: whether only its box is known; see `refine_instances`.
    """

    instance: Instances
    from_box: bool


def kind_of(value: Any) -> str | None:
    """Whether a region's value is a ``"brush"``, a ``"polygon"`` or a ``"rectangle"``; None for anything else."""
    if not isinstance(value, Mapping):
        return None
    if "rle" in value:
        return "brush"
    if "points" in value:
        return "polygon"
    return "rectangle" if {"x", "y", "width", "height"} <= value.keys() and "radiusX" not in value else None


def read(value: Mapping[str, Any], size: tuple[int, int], score: float = 1.0) -> Shape:
    """A region's shape on a photo.

    Args:
        value: of the region.
        size: (H, W) of the photo, pixels.
        score: of the model that made it, 1 for a person.

    Raises:
        DataError: a value that is damaged, or leaves nothing on the photo.
    """
    kind = kind_of(value)
    if kind == "rectangle":
        return _rectangle(value, size)
    if kind == "brush":
        mask = brush.decode(value["rle"], *size)
    else:
        mask = segmentation_to_mask([(_points(value["points"]) * (size[1], size[0]) / 100).ravel().tolist()], *size)
    if not mask.any():
        raise DataError(f"a {kind} region is empty")
    return Shape(Instances.from_masks(mask, scores=[score]), False)


def write(kind: str, window: Window, size: tuple[int, int], tolerance: float) -> dict[str, Any]:
    """A mask as the geometry of a region.

    Args:
        kind: ``"brush"`` or ``"polygon"``, which has one line: parts and holes are joined by pairs of equal lines.
        window: of the mask, which is not empty.
        size: (H, W) of the photo, pixels.
        tolerance: highest distance of a polygon's corner that is left out from its line, pixels.
    """
    if kind == "brush":
        y0, x0 = window.y, window.x
        full = np.zeros(size, np.bool_)
        full[y0 : y0 + window.height, x0 : x0 + window.width] = window.mask
        return {"format": "rle", "rle": brush.encode(full)}
    ring = joined([ring for rings in outlines(window, tolerance) for ring in rings])
    return {"points": (100 * ring / (size[1], size[0])).round(6).tolist(), "closed": True}


def _rectangle(value: Mapping[str, Any], size: tuple[int, int]) -> Shape:
    x, y, width, height = (_number(value[name], name) for name in ("x", "y", "width", "height"))
    x, width, y, height = x * size[1] / 100, width * size[1] / 100, y * size[0] / 100, height * size[0] / 100
    angle = math.radians(_number(value.get("rotation") or 0, "rotation"))
    if math.sin(angle) == 0 and math.cos(angle) == 1:
        return Shape(from_boxes([x, y, x + width, y + height], size), True)
    # The ellipse that touches the sides of a turned rectangle, as `from_boxes` makes one of a box.
    across, down = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    middle = (x, y) + width / 2 * across + height / 2 * down
    corners = middle + [a * width / 2 * across + b * height / 2 * down for a in (-1, 1) for b in (-1, 1)]
    (left, top), (right, bottom) = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    x0, y0, x1, y1 = (int(v) for v in (max(0, left), max(0, top), min(size[1], right), min(size[0], bottom)))
    if x1 <= x0 or y1 <= y0 or width < 1 or height < 1:
        raise DataError("a rectangle region covers less than one pixel of the photo")
    places = np.stack(np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5), axis=-1) - middle
    u, v = 2 * places @ across / width, 2 * places @ down / height
    within = np.where(u**2 + v**2 <= 1, INSIDE, CORNER) * ((abs(u) <= 1) & (abs(v) <= 1))
    window = Window(within.astype(np.float32), y0, x0)
    if not window.mask.any():
        raise DataError("a rectangle region covers less than one pixel of the photo")
    box = np.array([window.mask_box], np.float32)
    return Shape(Instances(size, box, np.array([_PREDICTED]), np.array([1]), (window,)), False)


def _points(value: Any) -> NDArray[np.float64]:
    if not isinstance(value, list) or not all(isinstance(p, list) and len(p) == 2 for p in value) or len(value) < 3:
        raise DataError("'points' of a polygon region must be a list of at least three [x, y]")
    return np.array([[_number(v, "a coordinate") for v in point] for point in value], np.float64)


def _number(value: Any, name: str) -> float:
    found: float = number(value, f"{name} of a region", -1e6, 1e6, error=DataError)
    return found
