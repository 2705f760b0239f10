"""Make recorded.npz: the original package's answers, for machines where it cannot be installed.

Run with pydensecrf (the fork pydensecrf2 1.1, x86-64) installed: ``python tests/pydensecrf/record.py``.
"""

from __future__ import annotations

from pathlib import Path

import cases
import numpy as np
import pydensecrf.densecrf

if __name__ == "__main__":
    answers = {name: case() for name, case in cases.recorded(pydensecrf.densecrf).items()}
    np.savez_compressed(Path(__file__).with_name("recorded.npz"), **answers)
