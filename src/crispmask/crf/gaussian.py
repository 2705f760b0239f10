"""The smoothness kernel: a Gaussian of the pixel positions alone, which is separable and needs no lattice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.arguments import as_array
from crispmask.crf.normalization import Normalization, factors
from crispmask.errors import ShapeError, ValueRangeError

# Standard deviations at which the kernel is cut off; it is 3e-4 of its peak there.
TRUNCATE = 4.0


class GaussianFilter:
    """k(p_i, p_j) = exp(-(y_i - y_j)²/2θy² - (x_i - x_j)²/2θx²) on an image grid, zero outside of it.

    It is exact except that it is cut off at four standard deviations. The normalisation of a separable kernel is
    separable too, and is kept as one factor per row and one per column.

    Args:
        shape: (H, W), pixels.
        theta: standard deviation in pixels, one number or (θy, θx).
        normalization: "none", "before", "after" or "symmetric"; see `crispmask.crf.Kernel`.

    Attributes:
        taps: for y and x, float32 half kernels (1 + 4n,); entry t is the weight at distance t.
        pre, post: for y and x, the factors on the input and on the output.

    Raises:
        ShapeError, ValueRangeError: an empty grid, a bandwidth that is not positive and finite.
    """

    def __init__(
        self, shape: tuple[int, int], theta: float | tuple[float, float], normalization: Normalization = "none"
    ) -> None:
        if len(shape) != 2 or min(shape) < 1:
            raise ShapeError(f"a grid must be (H, W) with at least one pixel, got {tuple(shape)}")
        self.shape = (int(shape[0]), int(shape[1]))
        thetas = bandwidths(theta, "theta_gamma")
        self.taps = tuple(_half_kernel(t, length) for t, length in zip(thetas, self.shape, strict=True))
        sums = [_row_sums(taps, length) for taps, length in zip(self.taps, self.shape, strict=True)]
        scale = [factors(s, normalization) for s in sums]
        self.pre, self.post = (scale[0][0], scale[1][0]), (scale[0][1], scale[1][1])

    def filter(self, values: ArrayLike, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """The (normalised) kernel applied to each channel, including the term of each pixel itself.

        Args:
            values: float32 (C, H, W).
            out: float32 (C, H, W), C-contiguous, to write into; may be `values` itself.

        Returns:
            float32 (C, H, W).

        Raises:
            ShapeError: values of another shape, or an `out` of another shape, dtype or memory layout.
        """
        from crispmask.crf import _gaussian_kernels as kernels

        array = np.ascontiguousarray(values, np.float32)
        if array.ndim != 3 or array.shape[1:] != self.shape:
            raise ShapeError(f"values must have shape (channels, {self.shape[0]}, {self.shape[1]}), got {array.shape}")
        if out is None:
            out = np.empty_like(array)
        elif out.shape != array.shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ShapeError(f"out must be a C-contiguous float32 array of shape {array.shape}")
        for channel, result in zip(array, out, strict=True):
            kernels.filter_grid(channel, *self.arguments(), result)
        return out

    def arguments(self, channels: int = 1) -> tuple[Any, ...]:
        """Taps and factors, as arguments of the compiled loops; those along x for interleaved channels."""
        (pre_y, pre_x), (post_y, post_x) = self.pre, self.post
        return (*self.taps, pre_y, np.repeat(pre_x, channels), post_y, np.repeat(post_x, channels))

    def diagonal(self) -> NDArray[np.float32]:
        """The terms of the pixels themselves, K(i, i): float32 (H, W)."""
        return np.outer(self.pre[0] * self.post[0], self.pre[1] * self.post[1]).astype(np.float32)


def bandwidths(theta: float | tuple[float, ...], name: str, count: int = 2) -> tuple[float, ...]:
    """`count` positive finite numbers, at least two, from one or from `count`; ValueRangeError for anything else."""
    try:
        values = np.broadcast_to(as_array(theta, name, np.float64), (count,))
    except (TypeError, ValueError):
        many = f" or {('two', 'three')[count - 2]}" if count > 1 else ""
        raise ValueRangeError(f"{name} must be one number{many}, got {theta!r}") from None
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueRangeError(f"{name} must be positive and finite, got {theta!r}")
    return tuple(float(value) for value in np.broadcast_to(values, (max(2, count),)))


def _half_kernel(theta: float, length: int) -> NDArray[np.float32]:
    """Weights at distances 0, 1, .. up to the truncation or the last pixel."""
    radius = math.ceil(min(TRUNCATE * theta, length - 1))
    return np.exp(-0.5 * (np.arange(radius + 1) / theta) ** 2).astype(np.float32)


def _row_sums(taps: NDArray[np.float32], length: int) -> NDArray[np.float64]:
    """Sum of the kernel's weights inside the grid, for every position."""
    cumulative = np.cumsum(taps, dtype=np.float64)
    radius = len(taps) - 1
    position = np.arange(length)
    before, after = np.minimum(position, radius), np.minimum(length - 1 - position, radius)
    return cumulative[before] + cumulative[after] - float(taps[0])
