"""Refinement within reach: the outline of a mask that is nearly right may move a little, and no farther."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crispmask.image.scaling import resized
from crispmask.instances import Window
from crispmask.refinement.windows import Rect, union

CERTAIN = 20.0
"""Log-odds of what is beyond reach: more than all pairwise terms of a pixel together."""

LEAST = 0.5
"""A reach of fewer pixels moves nothing."""


def reach_of(window: Window, share: float) -> float:
    """How far the outline of a mask may move, in pixels: this share of the square root of its area; 0 below `LEAST`."""
    reach = share * math.sqrt(float(window.mask.sum()))
    return reach if reach >= LEAST else 0.0


def covering(rect: Rect, window: Window) -> Rect:
    """A rectangle, widened to a mask: what of it lies elsewhere is beyond reach and stays."""
    x0, y0, x1, y1 = window.mask_box
    return union([rect, Rect(y0, x0, y1, x1)])


def beyond_reach(window: Window, rect: Rect, reach: float) -> NDArray[np.float32]:
    """What a mask is sure of: its pixels that are farther than `reach` from its outline, and those beside it.

    Args:
        window: the mask.
        rect: where in the image; see `covering`.
        reach: in pixels of the image, from the outline to the centre of a pixel.

    Returns:
        float32 over the rectangle's `grid`: `CERTAIN` inside the mask, its negative outside, 0 within reach.
    """
    from scipy.ndimage import distance_transform_edt

    mask = resized(window.over(rect), rect.grid) > 0.5
    limit = reach * rect.grid[0] / rect.shape[0] + 0.5  # the outline is half a pixel from the nearest centre
    known = np.zeros(mask.shape, np.float32)
    for side, sign in ((mask, CERTAIN), (~mask, -CERTAIN)):
        if side.any():
            far = side if side.all() else distance_transform_edt(side) > limit
            known[far] = sign
    return known
