"""How much of each pixel is the object: a soft band along the edge of its mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, uniform_filter

from crispmask.instances import MASK_THRESHOLD

RADIUS = 4
"""Half the width of the guided filter's square, pixels; for objects above 400 pixels a hundredth of their size."""

EPSILON = 1e-3
"""Variance of the colours, of values in [0, 1], below which the filter smooths rather than follows an edge."""

_LEAST, _MOST = 0.3, 0.95
"""What the filter gives is stretched from these values to 0 and 1: pixels that are mostly background show as a halo."""

_STRIP = 1 << 20  # pixels that are filtered at a time: some 100 bytes each


def radius_of(size: float) -> int:
    """Half the width of the filter for an object of this size, pixels."""
    return max(RADIUS, min(round(size / 100), 4 * RADIUS))


def soft_alpha(image: NDArray[np.uint8], probabilities: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """The opacity of an object from the probabilities of its mask, by a guided filter (He, Sun and Tang, 2010).

    The filter makes the mask a linear function of the colours around each pixel, so that its edge is as sharp as the
    image's. Pixels farther than the filter reaches from the edge of the mask are opaque or transparent.

    Args:
        image: uint8 (h, w, 3) RGB.
        probabilities: float32 (h, w) in [0, 1].
        radius: half the width of the filter's square, pixels.

    Returns:
        float32 (h, w) in [0, 1].
    """
    mask = probabilities > MASK_THRESHOLD
    alpha = mask.astype(np.float32)
    if mask.all() or not mask.any():
        return alpha
    height, width = mask.shape
    rows, reach = max(4 * radius, _STRIP // width), 2 * radius
    for y in range(0, height, rows):
        top, bottom = max(0, y - reach), min(height, y + rows + reach)
        part, inner = mask[top:bottom], slice(y - top, min(y + rows, height) - top)
        if part.all() or not part.any():
            continue
        # Distances to the edge, which lies between pixels.
        near = np.maximum(distance_transform_edt(part), distance_transform_edt(~part)) <= radius + 1
        smooth = _guided(image[top:bottom], probabilities[top:bottom], radius)
        stretched = np.clip((smooth - _LEAST) / (_MOST - _LEAST), 0, 1)
        alpha[y : y + rows] = np.where(near, stretched, part)[inner]
    return alpha


def _guided(image: NDArray[np.uint8], values: NDArray[np.float32], radius: int) -> NDArray[Any]:
    """Values (h, w) filtered with an image as the guide."""

    def mean(of: NDArray[Any]) -> NDArray[Any]:
        made: NDArray[Any] = uniform_filter(of, 2 * radius + 1, mode="nearest")
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
    filtered = mean(average - sum(slope * m for slope, m in zip(slopes, means, strict=True)))
    for slope, colour in zip(slopes, colours, strict=True):
        filtered = filtered + mean(slope) * colour
    return filtered
