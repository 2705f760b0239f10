"""One way to compile: without the GIL, cached between processes where a folder can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def jit(function: Callable[..., Any]) -> Any:
    """Compile on first call.

    Numba keeps the machine code in the folder NUMBA_CACHE_DIR, else beside the source, else (a read-only
    installation) in the user's cache folder. Where none of them can be written, each process compiles anew.
    IEEE arithmetic is kept (no `fastmath`): ties in the lattice must break the same way everywhere.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # "cannot cache function: no locator available"
        return njit(**options)(function)
