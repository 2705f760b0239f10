"""Numba and ONNX Runtime, set up in one place; both are imported on first use."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile on first call, by default with IEEE arithmetic, so that ties break the same way everywhere.

    Numba keeps the machine code in the folder NUMBA_CACHE_DIR, else beside the source, else (a read-only
    installation) in the user's cache folder. Where none of them can be written, each process compiles anew.
    """
    from numba import njit

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


def onnx_runtime() -> ModuleType:
    """The package ``onnxruntime``, with its telemetry switched off.

    Since version 1.32 its official wheels write a device id into the user's cache folder and send events about every
    model that is loaded to Microsoft, unless this variable is set before the first import (its ``Privacy.md``). Who
    wants that sets the variable to 0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
