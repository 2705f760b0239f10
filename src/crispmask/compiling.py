"""One way to compile: without the GIL, cached between processes where a folder can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile on first call, by default with IEEE arithmetic, so that ties break the same way everywhere.

    Numba keeps the machine code in the folder NUMBA_CACHE_DIR, else beside the source, else (a read-only
    installation) in the user's cache folder. Where none of them can be written, each process compiles anew.
    """
    # Numba names machine code after the function and a counter of the process that compiled it. Closures that differ in
    # a constant only would share a name when they come from the cache of different processes, and one would run in
    # the other's place; so the constants go into the name.
    for cell in function.__closure__ or ():
        if isinstance(cell.cell_contents, int):
            function.__qualname__ += f"_{cell.cell_contents}"
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # "cannot cache function: no locator available"
        return njit(**options)(function)
