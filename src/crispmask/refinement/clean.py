"""Small parts and holes of a mask, which a CRF leaves behind and an object does not have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crispmask.instances import MASK_THRESHOLD

_EIGHT = np.ones((3, 3), np.int64)


def without_specks(probabilities: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """A probability map whose mask has no small parts and no small holes.

    A part is a set of mask pixels that touch at sides or corners, a hole one of other pixels that touch at sides; the
    border of the map closes holes too. Where the mask changes, the probability p becomes 1 - p. The largest part stays.

    Args:
        probabilities: float32 (h, w) in [0, 1].
        share: parts and holes below this share of the mask's area are removed; 0 removes none.

    Returns:
        float32 (h, w); the map itself where nothing is removed.
    """
    mask = probabilities > MASK_THRESHOLD
    area = int(mask.sum())
    if not share or not area:
        return probabilities
    specks = _small_parts(mask, share * area)
    holes = _small_holes(mask & ~specks, share * area)
    if not (specks.any() or holes.any()):
        return probabilities
    changed = probabilities.copy()
    changed[specks] = 1 - changed[specks]
    changed[holes] = np.maximum(1 - changed[holes], np.nextafter(np.float32(MASK_THRESHOLD), np.float32(1)))
    return changed


def _small_parts(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    from scipy.ndimage import label

    parts, count = label(mask, _EIGHT)
    if count < 2:
        return np.zeros_like(mask)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    small = areas < least
    small[0] = small[areas.argmax()] = False
    chosen: NDArray[np.bool_] = small[parts]
    return chosen


def _small_holes(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    from scipy.ndimage import label

    parts, _ = label(~mask)
    small = np.bincount(parts.ravel()) < least
    small[0] = False
    chosen: NDArray[np.bool_] = small[parts]
    return chosen
