"""The mask branch: a mask for every box, from the frozen detector's feature maps (He et al., Mask R-CNN, ICCV 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crispmask.training.embedded.nanodet import STRIDES, Maps

SIDE = 28
"""Cells of a mask along each side of its box."""

_EARLY_STRIDES = (4, 8)
_SAMPLES = 4  # of each cell of a grid, along each axis


class MaskBranch(nn.Module):
    """Class-agnostic masks on a grid over each box.

    What an object is comes from the three late maps, on half the grid; where it ends comes from the early maps, which
    see single edges, on the whole grid.
    """

    def __init__(self) -> None:
        super().__init__()
        self.context = nn.Sequential(
            *_conv(3 * 128, 128, 1),
            *_conv(128, 128, 3),
            *_conv(128, 128, 3),
            *_conv(128, 128, 3),
            nn.ConvTranspose2d(128, 32, 2, 2),
            nn.ReLU(inplace=True),
        )
        self.detail = nn.Sequential(*_conv(64 + 128, 32, 1))
        self.both = nn.Sequential(*_conv(64, 64, 3), *_conv(64, 32, 3), nn.Conv2d(32, 1, 1))

    def forward(self, late: Tensor, early: Tensor) -> Tensor:
        """Logits (N, 28, 28) of N boxes, from what `aligned` gives."""
        logits: Tensor = self.both(torch.cat([self.context(late), self.detail(early)], 1))[:, 0]
        return logits


def aligned(maps: Maps, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The maps of one canvas under boxes.

    Args:
        maps: of one canvas.
        boxes: float32 (N, 4), xyxy in pixels of the canvas.

    Returns:
        float32 (N, 384, 14, 14) of the late maps and (N, 192, 28, 28) of the early ones.
    """

    def under(maps: tuple[Tensor, ...], strides: tuple[int, ...], side: int) -> Tensor:
        return torch.cat([align(x[0], boxes / s, side) for x, s in zip(maps, strides, strict=True)], 1)

    return under(maps.late, STRIDES, SIDE // 2), under(maps.early, _EARLY_STRIDES, SIDE)


def align(x: Tensor, boxes: Tensor, side: int) -> Tensor:
    """RoIAlign: the mean of four by four bilinear samples in each cell of a grid over each box.

    The samples' weights are products of weights along the two axes, so that all of it is two matrix products: eight
    times faster on a CPU than sampling.

    Args:
        x: (C, H, W).
        boxes: (N, 4), xyxy in cells of the map.
        side: cells of the grid.

    Returns:
        (N, C, side, side).
    """
    channels, height, width = x.shape
    rows = _weights(boxes[:, 1], boxes[:, 3], side, x[0, :, 0])
    columns = _weights(boxes[:, 0], boxes[:, 2], side, x[0, 0])
    part = (rows.flatten(0, 1) @ x.transpose(0, 1).reshape(height, -1)).reshape(-1, side * channels, width)
    return (part @ columns.transpose(1, 2)).reshape(-1, side, channels, side).transpose(1, 2)


def _weights(low: Tensor, high: Tensor, side: int, axis: Tensor) -> Tensor:
    """(N, side, L): how much each of L positions along an axis counts in each cell of the grids from low to high."""
    inside = (torch.arange(side * _SAMPLES, dtype=torch.float32) + 0.5) / (side * _SAMPLES)
    positions = torch.ones_like(axis).cumsum(0) - 1
    sampled = low[:, None] + (high - low)[:, None] * inside - 0.5
    sampled = torch.minimum(sampled.clamp(min=0), positions[-1])
    weights = torch.relu(1 - (sampled[..., None] - positions).abs())
    return weights.unflatten(1, (side, _SAMPLES)).mean(2)


def _conv(inputs: int, outputs: int, size: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
