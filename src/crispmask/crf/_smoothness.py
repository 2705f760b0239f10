"""The smoothness kernel in torch, with a gradient to its bandwidth.

A Gaussian of the positions alone is separable: the axes of the grid are filtered one after the other.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from crispmask.crf import _tensor_kernels
from crispmask.crf.gaussian import TRUNCATE

# Up to here all shifts of an array are held at a time.
_SMALL_RADIUS = 6


class ExactSmoothness:
    """exp(-|p_i - p_j|²/2θ²) on a grid, as two dense matrices, whose shapes do not depend on θ.

    Args:
        theta: scalar, in steps of the grid.
        grid: (H, W).
    """

    own = 1.0  # K(i, i)

    def __init__(self, theta: Tensor, grid: tuple[int, int]) -> None:
        self._grid = grid
        self._rows, self._columns = (_gaussian(_distances(n, theta), theta) for n in grid)

    def filter(self, values: Tensor) -> Tensor:
        """K applied to (B, N, C)."""
        batch, _, channels = values.shape
        height, width = self._grid
        filtered = self._rows @ values.reshape(batch, height, width * channels)
        return (self._columns @ filtered.reshape(batch, height, width, channels)).reshape(values.shape)


class CutSmoothness:
    """The same, cut off at four θ as in `GaussianFilter`; time is linear in pixels, for large images."""

    own = 1.0

    def __init__(self, theta: Tensor, grid: tuple[int, int]) -> None:
        self._grid = grid
        self._taps = []
        for length in grid:
            radius = min(math.ceil(TRUNCATE * float(theta.detach())), length - 1)
            self._taps.append(_gaussian(torch.arange(radius + 1, device=theta.device), theta)[None])

    def filter(self, values: Tensor) -> Tensor:
        """K applied to (B, N, C)."""
        batch, _, channels = values.shape
        height, width = self._grid
        down, across = self._taps
        image = _Convolve.apply(values.reshape(batch, height, width * channels), down)
        return _Convolve.apply(image.view(batch * height, width, channels), across).view(values.shape)


class _Convolve(torch.autograd.Function):
    """`_tensor_kernels.convolve` with gradients to the values and to the taps."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(values, taps)
        return _tensor_kernels.for_device(values.device).convolve(values.contiguous(), taps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        values, taps = ctx.saved_tensors
        grad = grad.contiguous()
        back = _tensor_kernels.for_device(grad.device).convolve(grad, taps)
        if not ctx.needs_input_grad[1]:
            return back, None
        return back, _correlation(grad, values, taps.shape[1] - 1)[None]


def _correlation(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """Σ a_i b_j over the pairs that are t apart along the middle axis, of each t up to the radius: (1 + r,)."""
    if radius <= _SMALL_RADIUS:  # all shifts in one launch
        shifted = F.pad(b, (0, 0, radius, radius)).unfold(1, b.shape[1], 1)  # (P, 2 r + 1, Q, length)
        sums = (a.transpose(1, 2)[:, None] * shifted).sum((0, 2, 3))
        return torch.cat([sums[radius : radius + 1], sums[radius + 1 :] + sums[:radius].flip(0)])
    parts = [(a * b).sum()]
    for t in range(1, radius + 1):
        parts.append((a[:, t:] * b[:, :-t]).sum() + (a[:, :-t] * b[:, t:]).sum())
    return torch.stack(parts)


def _distances(length: int, theta: Tensor) -> Tensor:
    position = torch.arange(length, device=theta.device)
    return position[:, None] - position


def _gaussian(distance: Tensor, theta: Tensor) -> Tensor:
    return torch.exp(-0.5 * (distance.to(theta.dtype) / theta).square())
