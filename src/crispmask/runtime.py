"""ONNX Runtime, silent: the one place that imports it."""

from __future__ import annotations

import os
from types import ModuleType


def onnx_runtime() -> ModuleType:
    """The package, told not to report to its maker.

    Since version 1.32 its official wheels write a device id into the user's cache folder and send events about every
    model that is loaded to Microsoft, unless this variable is set before the first import (its ``Privacy.md``). Who
    wants that sets the variable to 0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
