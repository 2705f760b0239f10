"""The matrices that a CRF returns and takes: float32, column-major, writable, shared and not copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from crispmask.pydensecrf.arguments import float32_buffer

__all__ = ["MatrixXf", "VectorXf", "matrixXf", "vectorXf"]


class _Buffer(np.ndarray):
    """An array type of its own; results of computing with it, and its slices, are plain `numpy.ndarray`.

    It is a subclass of ndarray because before Python 3.12 only that gives a writable 2-D buffer (``memoryview(Q)``) in
    pure Python. Rows, argmax and transpose of a :class:`MatrixXf` are no ``MatrixXf``.
    """

    def __array_wrap__(
        self, array: np.ndarray, context: Any = None, return_scalar: bool = False
    ) -> Any:  # results of ufuncs and reductions
        if array is self:  # the target of an in-place operation
            return self
        plain = array.view(np.ndarray)
        return plain[()] if return_scalar else plain

    def __getitem__(self, index: Any) -> Any:
        return self.view(np.ndarray)[index]

    @property
    def T(self) -> np.ndarray:  # type: ignore[override]
        return self.view(np.ndarray).T


def _plain(name: str) -> Callable[..., Any]:
    method = getattr(np.ndarray, name)

    def call(self: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        return method(self.view(np.ndarray), *args, **kwargs)

    call.__name__ = name
    call.__doc__ = method.__doc__
    return call


for _name in (
    "argmax",
    "argmin",
    "argsort",
    "astype",
    "diagonal",
    "flatten",
    "ravel",
    "repeat",
    "reshape",
    "squeeze",
    "swapaxes",
    "take",
    "transpose",
):
    setattr(_Buffer, _name, _plain(_name))


class MatrixXf(_Buffer):
    """float32 (rows, columns), column-major; ``MatrixXf()`` is (0, 0).

    ``np.array(Q)`` copies. ``np.asarray(Q)`` and ``memoryview(Q)`` are live views: a later
    :meth:`~crispmask.pydensecrf.densecrf.DenseCRF.stepInference` shows in them, and writing to them changes Q. Beyond
    the original it has ``shape``, ``T``, ``len()``, indexing, arithmetic, copying and pickling: it is an ndarray.
    """

    def __new__(cls, *_: Any) -> MatrixXf:
        return cast(MatrixXf, np.empty((0, 0), np.float32, order="F").view(cls))


class VectorXf(_Buffer):
    """float32 (size,); ``VectorXf()`` is (0,). Otherwise like :class:`MatrixXf`."""

    def __new__(cls, *_: Any) -> VectorXf:
        return cast(VectorXf, np.empty(0, np.float32).view(cls))


def matrixXf(arr: Any) -> MatrixXf:
    """A copy of a 2-D float32 array (or other buffer) as a :class:`MatrixXf`.

    Raises:
        TypeError: not an array, or None.
        ValueError: not float32, or not 2-D.
    """
    return np.array(float32_buffer(arr, "arr", 2), order="F").view(MatrixXf)


def vectorXf(arr: Any) -> VectorXf:
    """A copy of a 1-D float32 array (or other buffer) as a :class:`VectorXf`.

    Raises:
        TypeError: not an array, or None.
        ValueError: not float32, or not 1-D.
    """
    return np.array(float32_buffer(arr, "arr", 1)).view(VectorXf)
