"""Checks of what callers pass, shared by the kernels and the CRF."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.arguments import as_array
from crispmask.errors import ValueRangeError

MAX_WEIGHT = 1e9
"""Highest weight and penalty: beyond it, sums of float32 could overflow; nothing changes long before."""


def real_numbers(array: ArrayLike, name: str) -> NDArray[np.float32]:
    """An array as C-contiguous float32.

    Raises:
        ValueRangeError: an array of another kind than real numbers, NaN, infinity, or numbers beyond float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        given = as_array(array, name)
        if given.dtype.kind not in "fiub":
            raise ValueRangeError(f"{name} must be real numbers, got dtype {given.dtype}")
        result: NDArray[np.float32] = np.ascontiguousarray(given, np.float32)
    # The extremes are NaN or infinite if any number is: that needs no temporary array.
    if result.size and not (np.isfinite(result.min()) and np.isfinite(result.max())):
        raise ValueRangeError(f"{name} must be finite: found NaN, infinity, or numbers beyond float32")
    return result
