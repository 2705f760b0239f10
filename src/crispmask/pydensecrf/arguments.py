"""Checks and conversions of the arguments.

Accepted are all arguments that pydensecrf accepts, and some that it refused (any memory layout, read-only arrays, other
real dtypes where precision does not matter). Arguments that made it crash are a ValueError.
"""

from __future__ import annotations

import operator
from numbers import Number, Real
from typing import Any

import numpy as np

from crispmask.arguments import as_array
from crispmask.errors import ShapeError, ValueRangeError

# Upstream counts in 32-bit integers; the lattice numbers its corners likewise.
MAX_COUNT = 2**31 - 1
# A message is at most |compatibility| times the number of points, so this keeps every energy finite in float32.
MAX_COMPATIBILITY = 1e25
# Beyond it a sum of an energy and its messages could overflow to infinity, and infinity minus infinity is NaN.
MAX_ENERGY = 1e37


def integer(value: Any, name: str) -> int:
    """`value` as an int; real numbers are truncated, as the original does."""
    try:
        return operator.index(value)
    except TypeError:
        if not isinstance(value, Real):
            raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    try:
        return int(float(value))
    except (OverflowError, ValueError):
        raise ValueRangeError(f"{name} must be a finite number, got {value}") from None


def count(value: Any, name: str, minimum: int) -> int:
    """`value` as an int in [minimum, MAX_COUNT]."""
    number = integer(value, name)
    if not minimum <= number <= MAX_COUNT:
        raise ValueRangeError(f"{name} must lie between {minimum} and {MAX_COUNT}, got {number}")
    return number


def array(value: Any, name: str) -> np.ndarray:
    """`value` as an array over the same memory; lists, text and None are a TypeError, as in the original."""
    if not isinstance(value, np.ndarray):
        if not (hasattr(value, "__array__") or hasattr(value, "__array_interface__")):
            try:
                value = memoryview(value)
            except TypeError:
                raise TypeError(f"{name} must be an array, got {type(value).__name__}; use np.asarray") from None
        value = np.asarray(value)
    return value


def real_array(value: Any, name: str, ndim: int) -> np.ndarray:
    """`value` as a C-contiguous float32 array of `ndim` dimensions, copied only if necessary."""
    values = array(value, name)
    _check_ndim(values, name, ndim)
    if values.dtype.kind not in "fiub":
        raise ValueRangeError(f"{name} must hold real numbers, got dtype {values.dtype}; convert it to float32")
    with np.errstate(over="ignore"):  # float64 numbers beyond float32 become infinite; the callers check that
        return np.ascontiguousarray(values, dtype=np.float32)


def float32_buffer(value: Any, name: str, ndim: int) -> np.ndarray:
    """`value` as an array of `ndim` dimensions that already is float32; other dtypes are an error."""
    values = array(value, name)
    if values.dtype != np.float32:
        raise ValueRangeError(f"{name} must be float32, got {values.dtype}; use {name}.astype(np.float32)")
    _check_ndim(values, name, ndim)
    return values


def energies(value: Any, name: str) -> np.ndarray:
    """A read-only float32 (L, N) copy of `value`, finite entries limited to ±MAX_ENERGY."""
    u = np.array(real_array(value, name, 2))
    finite = np.isfinite(u)
    if (np.abs(u) > MAX_ENERGY).any(where=finite):
        np.clip(u, -MAX_ENERGY, MAX_ENERGY, out=u, where=finite)
    u.flags.writeable = False
    return u


def deviations(value: Any, name: str, size: int) -> np.ndarray:
    """Standard deviations, float32 (size,): one number for all, or the first `size` items of a sequence."""
    items = [value] * size if isinstance(value, Number) else _first(value, name, size)
    s = np.array([_real(item, name) for item in items]).astype(np.float32)
    if np.isnan(s).any() or (s == 0).any():
        raise ValueRangeError(f"{name} must not be zero or NaN, got {value}")
    return s


def image(value: Any, name: str, height: int, width: int) -> np.ndarray:
    """`value` as a uint8 (height, width, 3) array over the same memory."""
    pixels = array(value, name)
    if pixels.dtype not in (np.uint8, np.bool_):
        raise ValueRangeError(
            f"{name} must be uint8 (0..255), got {pixels.dtype}; for other images make features with"
            " utils.create_pairwise_bilateral and pass them to addPairwiseEnergy"
        )
    _check_ndim(pixels, name, 3)
    if pixels.shape[2] != 3:
        raise ShapeError(
            f"{name} must have 3 channels, got {pixels.shape[2]}; for other images make features with"
            " utils.create_pairwise_bilateral and pass them to addPairwiseEnergy"
        )
    if pixels.shape != (height, width, 3):
        raise ShapeError(
            f"{name} must have shape ({height}, {width}, 3), got {pixels.shape}; DenseCRF2D takes the width first"
        )
    return pixels.view(np.uint8)


def compatibility(value: Any, n_labels: int) -> np.ndarray:
    """The label compatibility mu, to be subtracted: float32 (L,), a diagonal, or a symmetric float32 (L, L).

    Numbers are Potts weights and enter as ``-w`` on the diagonal; vectors and matrices enter with their own sign
    (a positive diagonal repels equal labels), and matrices are symmetrised: upstream's conventions.
    """
    if isinstance(value, Number):
        mu = np.full(n_labels, -_real(value, "compat"), np.float64)
    else:
        if isinstance(value, list | tuple):
            listed = as_array(value, "compat")
            value = real_array(listed, "compat", listed.ndim)
        mu = array(value, "compat")
        if mu.ndim not in (1, 2):
            raise ShapeError(f"compat must be a number, a vector (L,) or a matrix (L, L), got shape {mu.shape}")
        if mu.dtype != np.float32:
            raise ValueRangeError(f"compat must be float32, got {mu.dtype}; use compat.astype(np.float32)")
        if mu.shape != (n_labels,) * mu.ndim:
            raise ShapeError(f"compat must have shape {(n_labels,) * mu.ndim} for {n_labels} labels, got {mu.shape}")
    if not (np.abs(mu) <= MAX_COMPATIBILITY).all():
        raise ValueRangeError(f"compat must be finite and at most {MAX_COMPATIBILITY:g}, got {value}")
    mu = mu.astype(np.float32)
    return (mu + mu.T) / 2 if mu.ndim == 2 else mu


def _check_ndim(values: np.ndarray, name: str, ndim: int) -> None:
    if values.ndim != ndim:
        raise ShapeError(f"{name} must have {ndim} dimensions, got {values.ndim} (shape {values.shape})")


def _first(value: Any, name: str, size: int) -> list[Any]:
    if isinstance(value, str | bytes) or not hasattr(value, "__getitem__"):
        raise TypeError(f"{name} must be a number or a sequence of {size}, got {type(value).__name__}")
    try:
        return [value[i] for i in range(size)]
    except IndexError:
        raise IndexError(f"{name} must be a number or a sequence of {size}, got {value!r}") from None
    except LookupError:
        raise TypeError(f"{name} must be a number or a sequence of {size}, got {value!r}") from None


def _real(value: Any, name: str) -> float:
    if isinstance(value, str | bytes | np.complexfloating):  # which float() would parse, or cut
        raise TypeError(f"{name} must hold real numbers, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        raise ValueRangeError(f"{name} must be finite, got a number beyond double precision") from None
