"""Where two versions of the same masks differ most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crispmask.instances import Instances, Window


def largest_change(before: Instances, after: Instances) -> tuple[int, int, int, int] | None:
    """Where two versions of the same instances differ most, in a square that shows a part of the object's edge.

    Masks that vanish or appear as a whole, and changes along the image's own edge, count only where nothing else
    changed: they show no edge that moved.

    Returns:
        x0, y0, x1, y1 in pixels, square, inside the image; None where no pixel changed.
    """
    height, width = before.image_size
    best: tuple[tuple[bool, float], tuple[int, int, int, int]] | None = None
    for i in range(min(len(before), len(after))):
        top, left, changed = _changed(before.windows[i], after.windows[i])
        if not changed.any():
            continue
        margin = round(0.02 * min(height, width))
        inner = changed.copy()
        inner[: max(margin - top, 0)] = inner[max(height - margin - top, 0) :] = False
        inner[:, : max(margin - left, 0)] = inner[:, max(width - margin - left, 0) :] = False
        both = before.windows[i].mask.any() and after.windows[i].mask.any()
        box = before.boxes[i]
        extent = float(max(box[2] - box[0], box[3] - box[1], *changed.shape) if both else max(changed.shape))
        side = int(min(max(0.4 * extent, 48), height, width))
        y, x, count = _densest(inner if inner.any() else changed, side)
        x0 = min(max(left + x - side // 2, 0), width - side)
        y0 = min(max(top + y - side // 2, 0), height - side)
        # Pixels that changed per pixel of the square's side: large objects win, but not by their size alone.
        rank = (bool(both and inner.any()), count / side)
        if best is None or rank > best[0]:
            best = rank, (x0, y0, x0 + side, y0 + side)
    return None if best is None else best[1]


def _densest(changed: NDArray[np.bool_], side: int) -> tuple[int, int, int]:
    """Row and column around which a square of `side` holds the most pixels, centred on them, and their number."""
    from scipy.ndimage import uniform_filter

    density = uniform_filter(changed.astype(np.float32), side, mode="constant")
    y, x = (int(v) for v in np.unravel_index(int(density.argmax()), density.shape))
    count = round(float(density[y, x]) * side * side)
    # Many squares hold as many pixels; the one with them in its middle shows most of their surroundings.
    half = side // 2
    rows, columns = np.nonzero(changed[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1])
    return max(y - half, 0) + round(float(rows.mean())), max(x - half, 0) + round(float(columns.mean())), count


def _changed(before: Window, after: Window) -> tuple[int, int, NDArray[np.bool_]]:
    """Top, left and bool (h, w): the pixels that differ, in the smallest part of the image that holds both masks."""
    pair = [window for window in (before, after) if window.probabilities.size]
    if not pair:
        return 0, 0, np.zeros((0, 0), np.bool_)
    top, left = min(w.y for w in pair), min(w.x for w in pair)
    shape = max(w.y + w.height for w in pair) - top, max(w.x + w.width for w in pair) - left
    changed = np.zeros(shape, np.bool_)
    for w in pair:
        changed[w.y - top : w.y - top + w.height, w.x - left : w.x - left + w.width] ^= w.mask
    return top, left, changed
