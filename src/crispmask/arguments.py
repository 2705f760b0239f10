"""Arguments of public functions that are arrays or numbers, checked in one place."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crispmask.errors import ShapeError, ValueRangeError


def as_array(value: Any, name: str, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """A value as an array.

    Args:
        value: what `numpy.asarray` takes.
        name: for messages.
        dtype: a type of real numbers, for a C-contiguous array of it; by default the value's own.

    Raises:
        ShapeError: no array, such as lists of different lengths.
        ValueRangeError: with `dtype`, something that is no number, or a fraction or too large where it is for integers.
    """
    try:
        array = np.asarray(value)
        if dtype is None:
            return array
        if array.dtype.kind not in "buif":
            raise ValueRangeError(f"{name} must be real numbers, got dtype {array.dtype}")
        with np.errstate(over="ignore", invalid="ignore"):
            if np.dtype(dtype).kind == "i" and array.dtype.kind in "uf":
                low, high = -(2.0 ** (8 * np.dtype(dtype).itemsize - 1)), 2.0 ** (8 * np.dtype(dtype).itemsize - 1)
                if not ((array >= low) & (array < high) & (array == np.trunc(array))).all():
                    raise ValueRangeError(f"{name} must be whole numbers of at most 64 bits")
            return np.ascontiguousarray(array, dtype)
    except (ShapeError, ValueRangeError):
        raise
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ShapeError(f"{name} must be an array of numbers with rows of equal length: {error}") from None


def whole(value: Any, name: str, low: int, high: int = 2**63 - 1) -> int:
    """A whole number from `low` to `high`, which may come as a float.

    Raises:
        ValueRangeError: anything else.
    """
    good = isinstance(value, Real) or hasattr(value, "__index__")
    try:
        if good and not isinstance(value, bool | np.bool_) and int(value) == value and low <= value <= high:
            return int(value)
    except (TypeError, ValueError, OverflowError):  # NaN, infinity, or an array of several
        pass
    raise ValueRangeError(f"{name} must be a whole number of at least {low}, got {value!r}")


def number(value: Any, name: str) -> float:
    """A finite number.

    Raises:
        ValueRangeError: anything else.
    """
    try:
        if isinstance(value, Real) and not isinstance(value, bool) and np.isfinite(float(value)):
            return float(value)
    except OverflowError:
        pass
    raise ValueRangeError(f"{name} must be a finite number, got {value!r}")
