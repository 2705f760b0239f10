"""Normalisation of a kernel, as factors on the input and the output of its filter."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from crispmask.errors import ValueRangeError

Normalization = Literal["none", "before", "after", "symmetric"]

_EPSILON = 1e-20


def check(normalization: str) -> Normalization:
    """The given name; ValueRangeError if it is none of `Normalization`."""
    if not isinstance(normalization, str) or normalization not in get_args(Normalization):
        known = ", ".join(get_args(Normalization))
        raise ValueRangeError(f"normalization must be one of {known}, got {normalization!r}")
    return normalization  # type: ignore[return-value]


def factors(
    sums: NDArray[np.floating], normalization: Normalization
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The factors (pre, post) of a message post · K(pre · Q).

    Args:
        sums: K·1, any shape.
        normalization: see `crispmask.crf.Kernel`.

    Returns:
        Two float32 arrays of the shape of `sums`.
    """
    one = np.ones(sums.shape, np.float32)
    if normalization == "none":
        return one, one
    if normalization == "symmetric":
        root = (1 / np.sqrt(sums + _EPSILON)).astype(np.float32)
        return root, root
    inverse = (1 / (sums + _EPSILON)).astype(np.float32)
    return (inverse, one) if normalization == "before" else (one, inverse)
