"""Compile everything once, so that the first image takes no longer than the others."""

from __future__ import annotations

import numpy as np

from crispmask.crf.dense import DenseCRF
from crispmask.crf.kernels import Bilateral, Gaussian, Kernel


def warmup() -> None:
    """Compile the inference for colour images (d = 5) and for two-dimensional features (d = 2), or load it.

    Takes about twenty seconds the first time, and half a second once Numba's cache holds the machine code (see
    NUMBA_CACHE_DIR). Other dimensions compile on their first use.
    """
    image = np.zeros((2, 2, 3), np.uint8)
    smooth = Gaussian(1.0, 1.0, self_term=False)
    for kernel in (Bilateral(image, 1, 1, 1, self_term=False), Kernel(np.zeros((2, 2, 2)), 1, self_term=False)):
        for count in (2, 3):
            DenseCRF(np.zeros((count, 2, 2)), [kernel, smooth]).run(1, track=True)
