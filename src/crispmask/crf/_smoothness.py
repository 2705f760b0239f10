"""The smoothness kernel in torch, with a gradient to its bandwidth.

A Gaussian of the positions alone is separable: the axes of the grid are filtered one after the other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from crispmask.crf.gaussian import TRUNCATE


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
            offsets = torch.arange(-radius, radius + 1, device=theta.device)
            self._taps.append(_gaussian(offsets, theta))

    def filter(self, values: Tensor) -> Tensor:
        """K applied to (B, N, C)."""
        batch, _, channels = values.shape
        image = values.transpose(1, 2).reshape(batch * channels, 1, *self._grid)
        down, across = self._taps
        image = F.conv2d(image, down[None, None, :, None], padding=(len(down) // 2, 0))
        image = F.conv2d(image, across[None, None, None, :], padding=(0, len(across) // 2))
        return image.reshape(batch, channels, -1).transpose(1, 2)


def _distances(length: int, theta: Tensor) -> Tensor:
    position = torch.arange(length, device=theta.device)
    return position[:, None] - position


def _gaussian(distance: Tensor, theta: Tensor) -> Tensor:
    return torch.exp(-0.5 * (distance.to(theta.dtype) / theta).square())
