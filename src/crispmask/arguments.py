"""Arguments of public functions that are arrays or numbers, checked in one place."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crispmask.errors import CrispmaskError, ShapeError, ValueRangeError

if TYPE_CHECKING:  # parameters are checked here, too, and the command line's help loads no NumPy
    from numpy.typing import DTypeLike, NDArray


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
    import numpy as np

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


def number(
    value: Any,
    name: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    whole: bool = False,
    error: type[CrispmaskError] = ValueRangeError,
) -> Any:
    """The value as a float; where it must be `whole`, as an int, which may come as a float.

    Args:
        value: a real number, of Python's or NumPy's types, or an array of no dimension that holds one.
        name: for messages.
        low, high: its lowest and highest value, both included.
        whole: whether there must be no fraction.
        error: the kind of exception.

    Raises:
        CrispmaskError: of that kind; no number, NaN or infinity, a fraction where there must be none, or a value
            outside [`low`, `high`].
    """
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # an array or tensor of one number
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise error(f"{name} must be {'a whole number' if whole else 'a number'}, got {shown(value)}")
    real: Any = value
    try:
        as_float = float(real)
    except OverflowError:
        as_float = math.inf
    if not math.isfinite(as_float):
        raise error(f"{name} must be a finite number, got {shown(value)}")
    if whole and as_float != int(as_float):
        raise error(f"{name} must be a whole number, got {shown(value)}")
    if real < low:
        raise error(f"{name} must be at least {low:.10g}, got {shown(value)}")
    if real > high:
        raise error(f"{name} must be at most {high:.10g}, got {shown(value)}")
    return int(real) if whole else as_float


def whole(
    value: Any, name: str, low: int, high: int = 2**63 - 1, *, error: type[CrispmaskError] = ValueRangeError
) -> int:
    """A whole number from `low` to `high`; otherwise as `number`."""
    found: int = number(value, name, low, high, whole=True, error=error)
    return found


def as_path(value: Any, name: str, error: type[CrispmaskError]) -> Path:
    """A path.

    Raises:
        CrispmaskError: of the kind `error`; something else than text and paths.
    """
    if not isinstance(value, str | os.PathLike):
        raise error(f"{name} must be a path, got {shown(value)}")
    return Path(value)


def thread_count(threads: Any) -> int:
    """A number of threads; one per processor for None.

    Raises:
        ValueRangeError: what is not a whole number of at least 1.
    """
    return os.cpu_count() or 1 if threads is None else whole(threads, "threads", 1)


def sequence(value: Any, name: str, error: type[CrispmaskError] = ShapeError) -> tuple[Any, ...]:
    """The items of a list or of anything like it, but not the characters of a text.

    Raises:
        CrispmaskError: of the kind `error`; something else.
    """
    try:
        if not isinstance(value, str | bytes | Mapping):
            return tuple(value)
    except TypeError:
        pass
    raise error(f"{name} must be a list, got {shown(value)}")


def flag(value: Any, name: str) -> bool:
    """True or False.

    Raises:
        ValueRangeError: what is neither, such as an array of several.
    """
    # NumPy's bool is called so, too.
    if (isinstance(value, int) or type(value).__name__ in ("bool", "bool_")) and value in (0, 1):
        return bool(value)
    raise ValueRangeError(f"{name} must be true or false, got {shown(value)}")


def shown(value: Any) -> str:
    """A value in a message: its beginning where it is long."""
    try:
        text = repr(value)
    except ValueError:  # a number of more than 4300 digits
        return f"a {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."
