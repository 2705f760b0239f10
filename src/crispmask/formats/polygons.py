"""Masks as polygons and back.

Coordinates are pixels; the first pixel has its corner at (0, 0) and its centre at (0.5, 0.5). An outline runs half-way
between the centres of pixels inside and outside. Without simplification, rasterising it by pixel centres, as COCO's
mask API does, restores the mask bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crispmask.instances import Window

Ring = NDArray[np.float64]
"""Float64 (n, 2), the corners x, y of a closed line, the first not repeated."""


def outlines(window: Window, tolerance: float = 0.0) -> list[list[Ring]]:
    """The parts of a mask, each with its outline and those of its holes.

    Args:
        window: of the mask.
        tolerance: highest distance, in pixels, of a corner that is left out from the simplified line (Ramer, 1972;
            Douglas and Peucker, 1973). An outline that would have fewer than three corners stays as it is.

    Returns:
        One list per part: the outer ring, then those of its holes; none for an empty mask.
    """
    from contourpy import FillType, contour_generator

    if not window.mask.any():
        return []
    padded = np.pad(window.mask.astype(np.float64), 1)
    generator = contour_generator(z=padded, name="serial", fill_type=FillType.OuterOffset)
    parts = []
    for points, offsets in zip(*generator.filled(0.5, 2.0), strict=True):
        corners = np.asarray(points, np.float64) - 0.5 + (window.x, window.y)
        rings = [corners[a : b - 1] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
        parts.append([simplify(ring, tolerance) for ring in rings])
    return parts


def simplify(ring: Ring, tolerance: float) -> Ring:
    """A ring with fewer corners; those that are left out lie within `tolerance` pixels of it."""
    # A closed line is two open ones, between a corner and the one farthest from it.
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    closed = np.concatenate((ring, ring[:1]))
    keep = np.zeros(len(closed), bool)
    keep[[0, far]] = True
    pieces = [(0, far), (far, len(ring))]
    while pieces:
        a, b = pieces.pop()
        if b - a < 2:
            continue
        distance = _distances(closed[a + 1 : b], closed[a], closed[b])
        k = int(np.argmax(distance))
        if distance[k] > tolerance:
            keep[a + 1 + k] = True
            pieces += [(a, a + 1 + k), (a + 1 + k, b)]
    found = ring[keep[:-1]]
    return found if len(found) >= 3 else ring


def _distances(points: Ring, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances (n,) of points (n, 2) from the line segment between a and b."""
    along = b - a
    length = float(along @ along)
    place = np.clip((points - a) @ along / length, 0, 1) if length else np.zeros(len(points))
    return np.linalg.norm(points - a - place[:, None] * along, axis=1)


def joined(rings: Sequence[Ring]) -> Ring:
    """Several rings as one: they are joined at their nearest corners by pairs of equal lines, which enclose no area.

    Filled by the even-odd rule, as COCO's mask API, OpenCV and Qt do, it covers the same pixels; holes remain holes.
    """
    whole = rings[0]
    for ring in rings[1:]:
        distance = ((whole[:, None] - ring[None]) ** 2).sum(axis=2)
        i, j = np.unravel_index(int(np.argmin(distance)), distance.shape)
        around = np.concatenate((np.roll(ring, -int(j), axis=0), ring[j : j + 1]))
        whole = np.concatenate((whole[: i + 1], around, whole[i:]))
    return whole
