"""Batches whose crops lie in the device's memory, and whose prompts are made there: all follows from seed and step."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional as F

from crispmask.training.refiner.batches import SIZE_CHANCES, SIZES, Batch
from crispmask.training.refiner.config import LearnConfig
from crispmask.training.refiner.cuts import CELLS, CONTEXT, GRABCUTS, PLANES, POLYGONS, Cuts
from crispmask.training.refiner.tensor_errors import Exact, draw_prompts

_PASTED, _MOVED = 0.15, 0.1
"""Share of the objects that another one covers in part, and of those that stand before another background."""


class ResidentBatches:
    """The batches of a run by step, as `Batches` has them, made on the device.

    Args:
        cuts: the crops; decoded they take `(3 + PLANES) * CELLS ** 2` bytes each, one megabyte.
        chances: float64 (N,), how often each is drawn.
        config: the run.
        device: of torch.
    """

    def __init__(self, cuts: Cuts, chances: NDArray[np.float64], config: LearnConfig, device: str) -> None:
        self.config, self.device = config, torch.device(device)
        rgb = np.empty((len(cuts), CELLS, CELLS, 3), np.uint8)
        masks = np.empty((len(cuts), PLANES, CELLS, CELLS), np.uint8)

        def decode(i: int) -> None:
            rgb[i], masks[i] = cuts.decoded(i)

        with ThreadPoolExecutor(cpu_count()) as pool:
            list(pool.map(decode, range(len(cuts))))  # which raises what a crop raised
        self._rgb = torch.from_numpy(rgb).to(device).permute(0, 3, 1, 2)
        self._masks = torch.from_numpy(masks).to(device)
        self._count = torch.from_numpy(cuts.found).to(device)
        self._chances = torch.from_numpy(chances).float().to(device)

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Batch:
        rng = Generator(self.device)
        rng.manual_seed(int(np.random.SeedSequence((self.config.seed, step)).generate_state(1)[0]))
        size = int(np.random.default_rng((self.config.seed, step)).choice(SIZES, p=SIZE_CHANCES))
        rows = torch.multinomial(self._chances, self.config.batch_size, replacement=True, generator=rng)
        grid = _views(len(rows), size, rng)
        rgb = _sampled(self._rgb, rows, grid)
        masks = _sampled(self._masks, rows, grid)
        rgb, masks = _composed(rgb, masks, rng)
        drawn = POLYGONS + GRABCUTS
        exact = Exact(masks[:, :1], masks[:, 1:2], masks[:, 2 : 2 + drawn], masks[:, 2 + drawn :], self._count[rows])
        prompt = draw_prompts(exact, self.config.detected, rng)
        return _recoloured(rgb, rng), prompt, exact.mask

    def loader(self, first: int, workers: int = 0, pinned: bool = False) -> Iterator[Batch]:
        """The batches from a step on, in order."""
        return (self[step] for step in range(first, len(self)))


def _sampled(stored: Tensor, rows: Tensor, grid: Tensor) -> Tensor:
    """Views of stored crops, float32 in [0, 1]; what lies outside is black."""
    return F.grid_sample(stored[rows].float() / 255, grid, align_corners=False)


def _views(b: int, size: int, rng: Generator) -> Tensor:
    """Where the cells of crops lie in the stored ones: moved, scaled, turned, stretched, mirrored."""
    device = rng.device

    def normal() -> Tensor:
        return torch.randn(b, generator=rng, device=device)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(b, generator=rng, device=device)

    scale = uniform(1.25, 1.8) / CONTEXT
    # A few are turned far, most hardly.
    angle = normal() * torch.where(uniform(0, 1) < 0.2, 0.35, 0.06)
    stretch, mirrored = torch.exp(normal() * 0.06), torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(b, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 0, 1] = mirrored * scale * stretch * angle.cos(), -scale * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = mirrored * scale * angle.sin(), scale / stretch * angle.cos()
    theta[:, :, 2] = torch.stack([uniform(-0.08, 0.08), uniform(-0.08, 0.08)], 1) * 2 * scale[:, None]
    return F.affine_grid(theta, [b, 1, size, size], align_corners=False)


def _composed(rgb: Tensor, masks: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """Some objects before another background, and some behind another object of the batch."""
    b, size = len(rgb), rgb.shape[-1]
    chance = torch.rand(b, 1, 1, 1, generator=rng, device=rng.device)
    mask = masks[:, :1]
    behind, theirs = rgb.roll(1, 0), masks.roll(1, 0)[:, :2].amax(1, keepdim=True)
    moved = chance < _MOVED
    rgb = torch.where(moved, mask * rgb + (1 - mask) * behind, rgb)
    others = torch.where(moved, theirs * (1 - mask), masks[:, 1:2])

    theta = torch.zeros(b, 2, 3, device=rng.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1.0 + torch.rand(b, generator=rng, device=rng.device)
    theta[:, :, 2] = torch.randn(b, 2, generator=rng, device=rng.device) * 0.9
    grid = F.affine_grid(theta, [b, 1, size, size], align_corners=False)
    pasted = F.grid_sample(torch.cat([rgb, mask], 1).roll(2, 0), grid, align_corners=False)
    cover = pasted[:, 3:]
    enough = (mask * (1 - cover)).sum((1, 2, 3), keepdim=True) > 0.6 * mask.sum((1, 2, 3), keepdim=True)
    cover = torch.where((chance > 1 - _PASTED) & enough, cover, 0.0)
    rgb = cover * pasted[:, :3] + (1 - cover) * rgb
    others = torch.maximum(others, cover)
    kept = masks * (1 - cover)
    return rgb, torch.cat([kept[:, :1], others, kept[:, 2:]], 1)


def _recoloured(rgb: Tensor, rng: Generator) -> Tensor:
    """In other light, now and then grey, blurred or of a lower resolution, with noise."""
    b, device = len(rgb), rng.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(b, *shape, generator=rng, device=device)

    def uniform() -> Tensor:
        return torch.rand(b, 1, 1, 1, generator=rng, device=device)

    mean = rgb.mean((1, 2, 3), keepdim=True)
    rgb = (rgb - mean) * torch.exp(normal(1, 1, 1) * 0.2) + mean
    rgb = rgb * (1 + 0.08 * normal(3, 1, 1)) + 0.09 * normal(1, 1, 1)
    rgb = rgb.clamp(min=1e-3) ** torch.exp(normal(1, 1, 1) * 0.15)
    grey = rgb.mean(1, keepdim=True)
    rgb = torch.where(uniform() < 0.15, grey + (rgb - grey) * uniform(), rgb)
    size = rgb.shape[-1]
    factor = 2 + int(torch.randint(2, (1,), generator=rng, device=device))
    low = F.interpolate(F.avg_pool2d(rgb, factor), size=(size, size), mode="bilinear", align_corners=False)
    soft = F.avg_pool2d(rgb, 3, 1, 1, count_include_pad=False)
    chance = uniform()
    rgb = torch.where(chance < 0.12, low, torch.where(chance < 0.3, soft, rgb))
    return (rgb + 0.015 * torch.randn(rgb.shape, generator=rng, device=device) * uniform()).clamp(0, 1)
