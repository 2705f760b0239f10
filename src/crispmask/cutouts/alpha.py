"""How much of each pixel is the object: a soft band along the edge of its mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, uniform_filter

from crispmask.image.scaling import Enlarged
from crispmask.instances import MASK_THRESHOLD

RADIUS = 4
"""Half the width of the guided filter's square, in cells of the grid on which it works."""

EPSILON = 1e-3
"""Variance of the colours, of values in [0, 1], below which the filter smooths rather than follows an edge."""

_LEAST, _MOST = 0.3, 0.95
"""What the filter gives is stretched from these values to 0 and 1: pixels that are mostly background show as a halo."""

_UNSEEN, _SEEN = 0.1, 0.4
"""Shares of the mask's variance that the colours explain: up to the first the image shows no edge where the mask has
one, and alpha follows the mask; from the second on it follows the colours alone."""


def cell_of(size: float) -> float:
    """Side of a cell of the filter's grid for an object of this size, pixels: 1 up to 400 pixels, at most 4."""
    return min(max(size / (100 * RADIUS), 1.0), 4.0)


class SoftEdge:
    """The opacity of an object from the probabilities of its mask, by a guided filter (He, Sun and Tang, 2010).

    The filter makes the mask a linear function of the colours around each pixel, so that its edge is as sharp as the
    image's. Where the colours do not tell the two sides of the edge apart, alpha is the mask, smoothed over a pixel.
    The coefficients are found on a grid, which may be coarser than the image (He and Sun, Fast Guided Filter, 2015).
    Cells farther than the filter reaches from the edge of the mask are opaque or transparent.

    Args:
        image: uint8 (h, w, 3) RGB, at the size of the grid.
        probabilities: float32 (h, w) in [0, 1], at the size of the grid.
        shape: rows and columns of the image itself.

    Attributes:
        alpha: float32 (h, w), the opacity on the grid.
    """

    def __init__(self, image: NDArray[np.uint8], probabilities: NDArray[np.float32], shape: tuple[int, int]) -> None:
        mask = probabilities > MASK_THRESHOLD
        # Distances to the edge, which lies between pixels.
        inner, outer = distance_transform_edt(mask), distance_transform_edt(~mask)
        near = (np.maximum(inner, outer) <= RADIUS + 1) & bool(mask.any()) & bool(not mask.all())
        coefficients = np.dstack([*_guided(image, probabilities), near]).astype(np.float32)
        self.alpha = _opacity(image, mask, coefficients)
        self._enlarged = Enlarged(coefficients, shape)
        self._reach = math.ceil((RADIUS + 2) * max(shape[0] / mask.shape[0], shape[1] / mask.shape[1]))

    def part(
        self, image: NDArray[np.uint8], mask: NDArray[np.bool_], rows: slice, columns: slice
    ) -> NDArray[np.float32] | None:
        """Alpha of a rectangle of the image, float32 (h, w); None where the edge is far, so that alpha is the mask.

        Args:
            image: uint8 (H, W, 3) RGB.
            mask: bool (H, W).
            rows, columns: of the rectangle.
        """
        around = mask[_widened(rows, self._reach, mask.shape[0]), _widened(columns, self._reach, mask.shape[1])]
        if around.all() or not around.any():
            return None
        rows_1, columns_1 = _widened(rows, 1, mask.shape[0]), _widened(columns, 1, mask.shape[1])
        coefficients = self._enlarged.part(rows_1, columns_1)
        alpha = _opacity(image[rows_1, columns_1], mask[rows_1, columns_1], coefficients)
        top, left = rows.start - rows_1.start, columns.start - columns_1.start
        return alpha[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]


def _widened(part: slice, by: int, limit: int) -> slice:
    return slice(max(part.start - by, 0), min(part.stop + by, limit))


def _opacity(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], coefficients: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Alpha (h, w) from the coefficients (h, w, 6) of `_guided`, and whether the edge is near."""
    near = coefficients[:, :, 5] > 0.5
    alpha = mask.astype(np.float32)
    if not near.any():
        return alpha
    plain = np.clip(_stretched(uniform_filter(alpha, 3, mode="nearest")), 0, 1)
    filtered = coefficients[:, :, 3].copy()
    for k in range(3):
        filtered += coefficients[:, :, k] * (image[:, :, k].astype(np.float32) / 255)
    follows = np.clip((coefficients[:, :, 4] - _UNSEEN) / (_SEEN - _UNSEEN), 0, 1)
    soft = plain + follows * (np.clip(_stretched(filtered), 0, 1) - plain)
    return np.where(near, soft, plain)


def _stretched(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return (values - np.float32(_LEAST)) / np.float32(_MOST - _LEAST)


def _guided(image: NDArray[np.uint8], values: NDArray[np.float32]) -> list[NDArray[Any]]:
    """Slopes of red, green and blue in [0, 1], intercept, and the share of the values' variance that these explain."""

    def mean(of: NDArray[Any]) -> NDArray[Any]:
        made: NDArray[Any] = uniform_filter(of, 2 * RADIUS + 1, mode="nearest")
        return made

    colours = [image[:, :, k].astype(np.float32) / 255 for k in range(3)]
    means, average = [mean(colour) for colour in colours], mean(values)
    r = [mean(colours[k] * values) - means[k] * average for k in range(3)]  # covariances with the values
    s = {
        (j, k): mean(colours[j] * colours[k]) - means[j] * means[k] + (EPSILON if j == k else 0)
        for j in range(3)
        for k in range(j, 3)
    }
    # The inverse of a symmetric 3 x 3 matrix by its cofactors.
    c00, c01 = s[1, 1] * s[2, 2] - s[1, 2] ** 2, s[0, 2] * s[1, 2] - s[0, 1] * s[2, 2]
    c02, c11 = s[0, 1] * s[1, 2] - s[0, 2] * s[1, 1], s[0, 0] * s[2, 2] - s[0, 2] ** 2
    c12, c22 = s[0, 1] * s[0, 2] - s[0, 0] * s[1, 2], s[0, 0] * s[1, 1] - s[0, 1] ** 2
    determinant = s[0, 0] * c00 + s[0, 1] * c01 + s[0, 2] * c02
    slopes = [
        (c00 * r[0] + c01 * r[1] + c02 * r[2]) / determinant,
        (c01 * r[0] + c11 * r[1] + c12 * r[2]) / determinant,
        (c02 * r[0] + c12 * r[1] + c22 * r[2]) / determinant,
    ]
    intercept = mean(average - sum(slope * m for slope, m in zip(slopes, means, strict=True)))
    explained = sum(slope * covariance for slope, covariance in zip(slopes, r, strict=True))
    variance = np.maximum(mean(values * values) - average**2, 1e-4)
    return [*map(mean, slopes), intercept, mean(explained / variance)]
