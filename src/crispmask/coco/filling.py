"""Polygons to runs of pixels, with the same pixels as pycocotools and memory that does not grow with their edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.errors import DataError

MAX_CROSSINGS = 1 << 26
"""How often the edges of a segmentation may cross the centre lines of columns, 67 million: ten seconds of work.

An outline of 10 000 pixels has 20 000 crossings at most."""

_ROOM = 1 << 20
"""Crossings that are held at a time."""


def filled(polygons: Sequence[NDArray[np.float64]], height: int, width: int) -> NDArray[np.int64]:
    """The union of polygons as run lengths, as pycocotools' mask API fills them.

    Args:
        polygons: at least one, each float64 (2 n,): x0, y0, x1, y1, ... in pixels, finite, n at least 3.
        height, width: H and W of the image, pixels.

    Returns:
        int64 (n,), the lengths of runs down the columns, in turn of background and foreground, with the sum H * W.

    Raises:
        DataError: more crossings than `MAX_CROSSINGS`.
    """
    from crispmask.coco import _polygon_kernels as kernels

    runs: NDArray[np.int64] = kernels.fill(*_edges(polygons, height, width), _ROOM)
    return runs


def check_crossings(polygons: Sequence[NDArray[np.float64]], height: int, width: int) -> None:
    """Raise DataError where `filled` would."""
    _edges(polygons, height, width)


def _edges(polygons: Sequence[NDArray[np.float64]], height: int, width: int) -> tuple[Any, ...]:
    """What the kernels take: corners, offsets, height, width, the first column and the crossings of columns."""
    from crispmask.coco import _polygon_kernels as kernels

    # Fifths of a pixel, cut off towards zero as in C.
    corners = (5 * np.concatenate(polygons).reshape(-1, 2) + 0.5).astype(np.int64)
    offsets = np.zeros(len(polygons) + 1, np.int64)
    offsets[1:] = np.cumsum([len(polygon) // 2 for polygon in polygons])
    xs = corners[:, 0]
    first = min(max(int(xs.min()) // 5, 0), width)
    counts = np.empty(min(max(int(xs.max()) // 5 + 1, first), width) - first, np.int64)
    kernels.count_crossings(corners, offsets, first, counts)
    total = int(counts.sum())
    if total > MAX_CROSSINGS:
        raise DataError(
            f"the edges of the polygons cross {total} columns of pixels, more than the limit of {MAX_CROSSINGS}: "
            "simplify the outlines, or give the mask as RLE"
        )
    return corners, offsets, height, width, first, counts
