"""Boxes as prompts: the probability maps that they make."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from crispmask.arguments import as_array
from crispmask.errors import ShapeError, ValueRangeError
from crispmask.instances import Instances, Window
from crispmask.refinement.crops import CORNER, INSIDE, bounded

UNKNOWN = 0.5
"""What the prompt of a scribble says where nothing is marked."""


def from_boxes(
    boxes: ArrayLike,
    image_size: tuple[int, int],
    *,
    scores: ArrayLike | None = None,
    category_ids: ArrayLike | None = None,
) -> Instances:
    """Instances of which only the boxes are known; each window holds the prompt that its box makes.

    Args:
        boxes: (N, 4) or (4,), x0, y0, x1, y1 in pixels, half-open.
        image_size: (H, W) in pixels.
        scores, category_ids: (N,); by default 1.

    Raises:
        ShapeError: boxes of another shape, or numbers that are not finite.
        ValueRangeError: a box that covers less than one pixel of the image.
    """
    try:
        array = as_array(boxes, "boxes", np.float32)
    except (TypeError, ValueError):
        array = np.full(4, np.nan, np.float32)
    array = array[None] if array.shape == (4,) else array
    if array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise ShapeError(f"boxes must be finite numbers x0, y0, x1, y1 of shape (N, 4), got {boxes!r}")
    n = len(array)
    return Instances(
        image_size,
        array,
        np.ones(n, np.float32) if scores is None else as_array(scores, "scores", np.float32),
        np.ones(n, np.int64) if category_ids is None else as_array(category_ids, "category_ids", np.int64),
        tuple(_ellipse(box, image_size) for box in array.tolist()),
    )


def _ellipse(box: list[float], image_size: tuple[int, int]) -> Window:
    x0, y0, x1, y1 = bounded((box[0], box[1], box[2], box[3]), image_size)
    left, right = max(0, math.floor(x0)), min(image_size[1], math.ceil(x1))
    top, bottom = max(0, math.floor(y0)), min(image_size[0], math.ceil(y1))
    if right - left < 1 or bottom - top < 1 or x1 - x0 < 1 or y1 - y0 < 1:
        raise ValueRangeError(
            f"the box {tuple(box)} covers less than one pixel of the image of {image_size[0]}x{image_size[1]} pixels "
            "(height x width); it must be x0, y0, x1, y1"
        )
    u = (2 * (np.arange(left, right) + 0.5) - x0 - x1) / (x1 - x0)
    v = (2 * (np.arange(top, bottom) + 0.5) - y0 - y1) / (y1 - y0)
    return Window(np.where(v[:, None] ** 2 + u**2 <= 1, INSIDE, CORNER).astype(np.float32), top, left)
