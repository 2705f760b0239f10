"""Masks made worse in the ways in which detectors, annotators and colour models err; torch, a batch at a time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crispmask.instances import Instances, Window
from crispmask.params import CRFParams
from crispmask.training.refiner.store import paste

_REACH = 12  # pixels to either side that a blur takes in


def degrade(truth: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random mistakes on annotated masks.

    A mask head sees an object through a coarse grid: thin parts vanish, the outline wanders, parts are missing or
    belong to a neighbour, and the probabilities are as steep as its training made them. Each of these has a random
    share in each mask; one mask in eight only loses resolution.

    Args:
        truth: float32 (B, 1, S, S) in [0, 1].
        draw: what decides.

    Returns:
        float32 (B, 1, S, S) in [0, 1], and bool (B,): which of them are binary.
    """
    n, side = len(truth), truth.shape[-1]
    strength = _uniform(n, draw) * (_uniform(n, draw) > 0.125)
    moved = displace(truth, 0.06 * strength, draw)
    low = blur(moved, 0.4 + strength * 5 * _uniform(n, draw) * side / 112)
    noise = sum(share * _field(n, 1, cells, side, draw) for cells, share in ((4, 0.6), (8, 0.6), (14, 0.5)))
    low = low + 0.4 * strength * _uniform(n, draw) * noise
    steepness = 3 + 11 * _uniform(n, draw)
    soft = torch.where(strength > 0, torch.sigmoid((low - 0.5) * steepness), low).clamp(0, 1)
    # Resolution of the window, in cells; a mask head has 28 in its box, which is about 1/1.4 of the window.
    cells = torch.randint(0, 4, (n,), generator=draw)
    for k, size in enumerate((20, 28, 40)):
        coarse = F.interpolate(F.interpolate(soft, (size, size), mode="area"), (side, side), mode="bilinear")
        soft = torch.where((cells == k).view(-1, 1, 1, 1), coarse, soft)
    binary = _uniform(n, draw).flatten() < 0.4
    hard = (soft > 0.5).float()
    return torch.where(binary.view(-1, 1, 1, 1), hard, soft), binary


def as_mask_head(truth: Instances, seed: int, side: int = 96) -> Instances:
    """`degrade` for the only object of `truth`: with probabilities or without, as it falls; its box stays."""
    height, width = truth.image_size
    x0, y0, x1, y1 = (float(v) for v in truth.boxes[0])
    reach = 0.2 * max(x1 - x0, y1 - y0) + 4
    left, top = max(0, int(x0 - reach)), max(0, int(y0 - reach))
    right, bottom = min(width, int(x1 + reach) + 1), min(height, int(y1 + reach) + 1)
    whole = torch.from_numpy(paste(truth.windows[0], (left, top, right, bottom)))[None, None]
    small = F.interpolate(whole, (side, side), mode="bilinear", antialias=True).clamp(0, 1)
    worse, binary = degrade(small, torch.Generator().manual_seed(seed))
    made = F.interpolate(worse, whole.shape[2:], mode="bilinear", antialias=True).clamp(0, 1)[0, 0].numpy()
    if binary.item():
        made = (made > 0.5).astype(np.float32)
    return truth.with_windows([Window(made, top, left)])


def displace(masks: Tensor, amplitude: Tensor, draw: torch.Generator) -> Tensor:
    """Masks moved by smooth random fields of `amplitude` (B, 1, 1, 1), in shares of the side: their outlines wander."""
    n, side = len(masks), masks.shape[-1]
    field = (
        _field(n, 2, 4, side, draw)
        + 0.6 * _field(n, 2, 8, side, draw)
        + 0.5 * torch.randn((n, 2, 1, 1), generator=draw)
    )
    grid = F.affine_grid(torch.eye(2, 3).repeat(n, 1, 1), [n, 1, side, side], align_corners=False)
    grid = grid + (2 * amplitude * field).permute(0, 2, 3, 1)
    return F.grid_sample(masks, grid, align_corners=False)


def blur(masks: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of (B, 1, S, S), each with its own sigma (B, 1, 1, 1) in pixels."""
    n, offsets = len(masks), torch.arange(-_REACH, _REACH + 1, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sigma.view(n, 1) ** 2))
    kernel = kernel / kernel.sum(1, keepdim=True)
    one = F.pad(masks.view(1, n, *masks.shape[2:]), [_REACH] * 4, mode="replicate")
    one = F.conv2d(one, kernel.view(n, 1, 1, -1), groups=n)
    return F.conv2d(one, kernel.view(n, 1, -1, 1), groups=n).view_as(masks)


def soften_binary(masks: Tensor, binary: Tensor) -> Tensor:
    """What `refine` does to binary masks before the unary: a Gaussian as wide as their size says."""
    area = masks.sum((1, 2, 3)).clamp(min=1).view(-1, 1, 1, 1)
    sigma = (CRFParams().smoothing * area.sqrt()).clamp(min=0.2)
    return torch.where(binary.view(-1, 1, 1, 1), blur(masks, sigma), masks)


def _field(n: int, channels: int, cells: int, side: int, draw: torch.Generator) -> Tensor:
    """Smooth Gaussian noise (n, channels, side, side)."""
    values = torch.randn((n, channels, cells, cells), generator=draw)
    return F.interpolate(values, (side, side), mode="bicubic", align_corners=False)


def _uniform(n: int, draw: torch.Generator) -> Tensor:
    return torch.rand((n, 1, 1, 1), generator=draw)
