"""The colours of an object where its pixels are mixed with the background.

Source: T. Germer, T. Uelwer, S. Conrad and S. Harmeling, Fast Multi-Level Foreground Estimation, ICPR 2020.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SMOOTHNESS, EDGES = np.float32(1e-5), np.float32(5)
"""Weights of differences between neighbours, and of those where alpha changes. The authors take 1 for the latter; our
alpha is less exact than that of matting, and with 5 less of the background stays in the colours."""

_FEW, _MANY, _SMALL = 2, 10, 32
"""How often all pixels are visited: few times, but many up to a side of 32."""


def estimate_colours(
    image: NDArray[np.uint8], alpha: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The colours F and B for which alpha F + (1 - alpha) B is the image, both being smooth.

    From a grid of one cell on, each level has twice the rows and columns and begins with the result of the last one.

    Args:
        image: uint8 (h, w, 3) RGB.
        alpha: float32 (h, w) in [0, 1].

    Returns:
        Foreground and background, each float32 (h, w, 3) in [0, 255].
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
        relax(seen, _nearest(alpha, shape), foreground, background, times, SMOOTHNESS, EDGES, False)
    return np.clip(foreground, 0, 255), np.clip(background, 0, 255)


def foreground_of(
    image: NDArray[np.uint8],
    alpha: NDArray[np.float32],
    foreground: NDArray[np.float32],
    background: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """The foreground's colours at the image's resolution, from those of a lower one.

    Args:
        image: uint8 (h, w, 3) RGB.
        alpha: float32 (h, w) in [0, 1].
        foreground, background: float32 (h, w, 3) in [0, 255], enlarged; they are overwritten.

    Returns:
        uint8 (h, w, 3); where alpha is 1, the image's.
    """
    from crispmask.cutouts._kernels import relax

    seen = image.astype(np.float32)
    np.copyto(foreground, seen, where=(alpha == 1)[:, :, None])
    np.copyto(background, seen, where=(alpha == 0)[:, :, None])
    relax(seen, alpha, foreground, background, _FEW, SMOOTHNESS, EDGES, True)
    return np.rint(np.clip(foreground, 0, 255, out=foreground)).astype(np.uint8)


def _mean(image: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    total = max(float(weights.sum(dtype=np.float64)), 1e-6)
    return (np.einsum("yxc,yx->c", image, weights, dtype=np.float64) / total).astype(np.float32)


def _nearest(values: NDArray, shape: tuple[int, int]) -> NDArray:
    """Values (h, w, ...) at another size, each from the nearest cell; a copy."""
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(shape, values.shape[:2], strict=True))
    return np.ascontiguousarray(values[rows.astype(int)[:, None], columns.astype(int)])
