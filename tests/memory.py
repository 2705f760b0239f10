"""The memory that a piece of code takes, measured in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_MEASURE = """
def _megabytes(name):
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024
    except OSError:  # only Linux says
        return 0.0

_before = _megabytes("VmRSS")
{code}
print("megabytes", _megabytes("VmHWM") - _before)
"""


def megabytes_above(prepare: str, code: str, cwd: Path | None = None) -> float:
    """How far the memory of a process rises above where it was, in MB, while it runs `code`.

    Args:
        prepare: run before, and not counted: imports, and small calls that compile what `code` needs.
        code: lines of Python.
        cwd: the folder in which both run.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    script = prepare + _MEASURE.format(code=code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split("megabytes")[-1])
