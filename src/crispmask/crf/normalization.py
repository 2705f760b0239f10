"""How a kernel is normalised, as factors on the input and on the output of the filter."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from crispmask.errors import ValueRangeError

Normalization = Literal["none", "before", "after", "symmetric"]

_EPSILON = 1e-20


def check(normalization: str) -> Normalization:
    """The name, if it is known, else ValueRangeError."""
    if normalization not in get_args(Normalization):
        known = ", ".join(get_args(Normalization))
        raise ValueRangeError(f"normalization must be one of {known}, got {normalization!r}")
    return normalization  # type: ignore[return-value]


def factors(
    sums: NDArray[np.floating], normalization: Normalization
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(pre, post), float32 of the shape of `sums` = K·1: the message is post · K(pre · Q)."""
    one = np.ones(sums.shape, np.float32)
    if normalization == "none":
        return one, one
    if normalization == "symmetric":
        root = (1 / np.sqrt(sums + _EPSILON)).astype(np.float32)
        return root, root
    inverse = (1 / (sums + _EPSILON)).astype(np.float32)
    return (inverse, one) if normalization == "before" else (one, inverse)
