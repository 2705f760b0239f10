"""The colours of an object where its pixels are mixed with the background.

Source: T. Germer, T. Uelwer, S. Conrad and S. Harmeling, Fast Multi-Level Foreground Estimation, ICPR 2020.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SMOOTHNESS, EDGES = np.float32(1e-5), np.float32(1)
"""Weights of differences between neighbours, and of those where alpha changes; the authors' values."""

_FEW, _MANY, _SMALL = 2, 10, 32
"""How often all pixels are visited: few times, but many up to a side of 32."""


def estimate_foreground(image: NDArray[np.uint8], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """The colours F for which alpha F + (1 - alpha) B is the image, F and the background B being smooth.

    From a grid of one cell on, each level has twice the rows and columns and begins with the result of the last one.

    Args:
        image: uint8 (h, w, 3) RGB.
        alpha: float32 (h, w) in [0, 1].

    Returns:
        float32 (h, w, 3) in [0, 255].
    """
    from crispmask.cutouts._kernels import relax

    height, width = alpha.shape
    levels = max(1, math.ceil(math.log2(max(height, width))))
    foreground = _mean(image, alpha).reshape(1, 1, 3)
    background = _mean(image, 1 - alpha).reshape(1, 1, 3)
    for level in range(levels + 1):
        shape = round(height ** (level / levels)), round(width ** (level / levels))
        seen = _nearest(image, shape).astype(np.float32)
        foreground, background = _nearest(foreground, shape), _nearest(background, shape)
        times = _MANY if max(shape) <= _SMALL else _FEW
        relax(seen, _nearest(alpha, shape), foreground, background, times, SMOOTHNESS, EDGES)
    return np.clip(foreground, 0, 255)


def _mean(image: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    total = max(float(weights.sum(dtype=np.float64)), 1e-6)
    return (np.einsum("yxc,yx->c", image, weights, dtype=np.float64) / total).astype(np.float32)


def _nearest(values: NDArray, shape: tuple[int, int]) -> NDArray:
    """Values (h, w, ...) at another size, each from the nearest cell; a copy."""
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(shape, values.shape[:2], strict=True))
    return np.ascontiguousarray(values[rows.astype(int)[:, None], columns.astype(int)])
