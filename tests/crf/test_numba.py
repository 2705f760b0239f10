"""Compiled closures: one name each, or the cache hands out the wrong one."""

from __future__ import annotations

import pytest

from crispmask.crf import _lattice_kernels


@pytest.mark.parametrize(
    ("kernel", "constants"),
    [
        ("build", [(d, 1) for d in range(1, 17)]),
        ("diagonal", [(d, 1) for d in range(1, 17)]),
        ("neighbours", [(16, words) for words in range(1, 5)]),
        ("merge", [(16, words) for words in range(1, 5)]),
    ],
)
def test_kernels_of_different_constants_have_different_names(kernel: str, constants: list[tuple[int, int]]) -> None:
    """Numba's symbols hold the qualified name and a counter per process: equal names met in the cache and crashed."""
    names = {getattr(_lattice_kernels.make(*pair), kernel).py_func.__qualname__ for pair in constants}
    assert len(names) == len(constants)
