"""Unary terms as objects for `DenseCRF.setUnary`."""

from __future__ import annotations

from typing import Any

import numpy as np

from crispmask.errors import ShapeError
from crispmask.pydensecrf.arguments import energies, real_array


class Unary:
    """No unary term: every label of every variable costs the same.

    One object can be used with any number of models; the original allows one.
    """

    energies: np.ndarray | None = None  # read-only float32 (L, N)


class ConstUnary(Unary):
    """Energies given as they are.

    Args:
        u: float32 (L, N), usually negative natural-log probabilities; copied.

    Raises:
        TypeError: not an array, or None.
        ValueError: not 2-D, or not real numbers.
    """

    def __init__(self, u: Any) -> None:
        self.energies = energies(u, "u")


class LogisticUnary(Unary):
    """Energies that are linear in features: L @ f.

    Args:
        L: float32 (L, D), weights.
        f: float32 (D, N), features.

    Raises:
        TypeError: not an array, or None.
        ValueError: not 2-D, not real numbers, or inner dimensions that differ.
    """

    def __init__(self, L: Any, f: Any) -> None:
        weights, values = real_array(L, "L", 2), real_array(f, "f", 2)
        if weights.shape[1] != values.shape[0]:
            raise ShapeError(f"L (labels, D) and f (D, N) must share D, got {weights.shape} and {values.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            self.energies = energies(weights @ values, "L @ f")
