"""Small parts and holes of a mask, which a CRF leaves behind and an object does not have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crispmask.instances import MASK_THRESHOLD


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
    from crispmask.refinement._clean_kernels import mark_small

    mask = probabilities > MASK_THRESHOLD
    area = int(mask.sum())
    if not share or not area:
        return probabilities
    specks, holes = np.zeros_like(mask), np.zeros_like(mask)
    found = mark_small(mask, True, 1, share * area, True, specks)
    found += mark_small(mask & ~specks if found else mask, False, 0, share * area, False, holes)
    if not found:
        return probabilities
    changed = probabilities.copy()
    changed[specks] = 1 - changed[specks]
    changed[holes] = np.maximum(1 - changed[holes], np.nextafter(np.float32(MASK_THRESHOLD), np.float32(1)))
    return changed
