"""Compiled closures: one name each, or the cache hands out the wrong one."""

from __future__ import annotations

from crispmask.crf import _lattice_kernels


def test_kernels_of_different_dimensions_have_different_names() -> None:
    """Numba's symbols hold the qualified name and a counter per process: equal names met in the cache and crashed."""
    for kernel in ("build", "neighbours", "diagonal"):
        names = {getattr(_lattice_kernels.make(d, 1), kernel).py_func.__qualname__ for d in range(1, 17)}
        assert len(names) == 16
