"""Numba and ONNX Runtime, set up in one place; both are imported on first use."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile at the first call; by default with IEEE arithmetic, so that ties are broken alike on every machine.

    Numba keeps the machine code in the folder NUMBA_CACHE_DIR, else beside the source, else (if the installation is
    read-only) in the user's cache folder. If none of them can be written, each process compiles again.

    Args:
        function: a plain function; integers in its closure are compiled as constants.
        options: of `numba.njit`.

    Returns:
        The compiled function; it releases the GIL.
    """
    from numba import njit

    # Numba names machine code after the function and a counter within the process that compiled it. Two closures that
    # differ only in a constant can get the same name in different processes, and a process that loads both from the
    # cache would run one in place of the other. So the constants become part of the name.
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
    loaded model to Microsoft, unless ORT_DISABLE_TELEMETRY is set before the first import (see its ``Privacy.md``). To
    allow that, set the variable to 0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
