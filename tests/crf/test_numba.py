"""Compiled closures need different names, or Numba's cache mixes them up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crispmask.crf import _lattice_filters, _lattice_kernels


@pytest.mark.parametrize(
    ("make", "kernel", "constants"),
    [
        (_lattice_kernels.make, "build", [(d, 1) for d in range(1, 17)]),
        (_lattice_kernels.make, "neighbours", [(16, words) for words in range(1, 5)]),
        (_lattice_kernels.make, "merge", [(16, words) for words in range(1, 5)]),
        (_lattice_filters.make, "diagonal", [(d,) for d in range(1, 17)]),
        (_lattice_filters.make, "splat", [(d,) for d in range(1, 17)]),
    ],
)
def test_kernels_of_different_constants_have_different_names(
    make: Callable[..., Any], kernel: str, constants: list[tuple[int, ...]]
) -> None:
    """Numba's symbols hold the qualified name and a counter per process: equal names met in the cache and crashed."""
    names = {getattr(make(*values), kernel).py_func.__qualname__ for values in constants}
    assert len(names) == len(constants)
