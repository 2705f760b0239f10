"""Prompts made from exact masks as in `errors`, for a whole batch on torch's device.

A batch of masks is float32 (B, 1, S, S) in [0, 1], and so are its prompts. Boxes are float32 (B, 4), x0, y0, x1, y1 in
cells. What is random comes from the generator that is handed in, which belongs to the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from crispmask.refinement.crops import CORNER, INSIDE
from crispmask.refinement.prompts import UNKNOWN
from crispmask.training.refiner.errors import SHARES

_SIDE = 256  # cells for which the widths below hold; they grow with the crop
_DISCS = 4  # of each colour of a scribble, at most


@dataclass(frozen=True)
class Exact:
    """What the prompts of a batch are made from.

    Attributes:
        mask, others: of the objects, and of their neighbours.
        drawn: (B, D, S, S), coarse masks that were made beforehand.
        found: (B, F, S, S), a detector's masks.
        count: int64 (B,), how many of `found` there are.
    """

    mask: Tensor
    others: Tensor
    drawn: Tensor
    found: Tensor
    count: Tensor

    def part(self, rows: slice) -> Exact:
        """Some of the objects."""
        return Exact(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def draw_prompts(exact: Exact, detected: float, rng: Generator) -> Tensor:
    """Random prompts, one of each object; `detected` of those that a detector found are its masks."""
    b = len(exact.mask)
    ends = [round(b * end) for end in accumulate(share for share, _, _ in _KINDS.values())]
    made = []
    for (_, draw, bites), start, end in zip(_KINDS.values(), [0, *ends], ends, strict=False):
        if end > start:
            some = exact.part(slice(start, end))
            prompt = draw(some, rng)
            if bites:
                prompt = bite(prompt, some, rng)
                prompt = torch.where(_uniform(some.mask, rng) < 0.6, _binary(prompt, rng), prompt)
            made.append(prompt)
    prompt = torch.cat(made)
    k = (torch.rand(b, generator=rng, device=prompt.device) * exact.count.clamp(min=1)).long()
    theirs = exact.found[torch.arange(b, device=k.device), k][:, None]
    taken = (exact.count[:, None, None, None] > 0) & (_uniform(prompt, rng) < detected)
    return torch.where(taken, theirs, prompt).clamp(0, 1)


def boxes(mask: Tensor) -> Tensor:
    """Of the cells above one half; of one cell where there are none."""
    rows, columns = (mask[:, 0] > 0.5).any(2), (mask[:, 0] > 0.5).any(1)
    limits = []
    for line in (columns, rows):
        at = torch.arange(line.shape[1], device=line.device)
        first = torch.where(line, at, line.shape[1] - 1).amin(1)
        limits.append((first, torch.where(line, at + 1, 0).amax(1).maximum(first + 1)))
    (x0, x1), (y0, y1) = limits
    return torch.stack([x0, y0, x1, y1], 1).float()


def ellipses(box: Tensor, size: int) -> Tensor:
    """The prompts of boxes: the same that `refine` makes of them."""
    x, y = _inside(box, size)
    within = (x.abs() <= 1)[:, None, :] & (y.abs() <= 1)[:, :, None]
    round_ = x[:, None, :] ** 2 + y[:, :, None] ** 2 <= 1
    return torch.where(within, torch.where(round_, INSIDE, CORNER), 0.0)[:, None]


def mask_head(mask: Tensor, rng: Generator) -> Tensor:
    """What the mask head of a two-stage detector makes: a noisy grid over a box that is a little off."""
    b, size = len(mask), mask.shape[-1]
    box = _jittered(boxes(mask), 0.005, 0.055, rng)
    cells = (14, 28, 28, 28, 56)[_whole(5, rng)]
    low = _over(blurred(mask, _between(0.6, 5.6, rng) * size / _SIDE), box, cells)
    field = _noise(b, cells, {4: 1.0, 9: 0.7, cells: 0.3}, rng)
    odds = torch.logit(low.clamp(0.02, 0.98)) * 1.3 + _strength(mask, rng) * field
    return _pasted(odds.sigmoid(), box, size)


def prototypes(mask: Tensor, rng: Generator) -> Tensor:
    """What a one-stage detector makes of prototypes: a coarse grid over the whole image, cut at the box."""
    size, cells = mask.shape[-1], 12 + _whole(60, rng)
    box = _jittered(boxes(mask), 0.005, 0.055, rng)
    low = F.adaptive_avg_pool2d(blurred(mask, 1.0), cells)
    field = _noise(len(mask), cells, {max(3, cells // 6): 1.0, cells: 0.5}, rng)
    odds = torch.logit(low.clamp(0.03, 0.97)) * 1.2 + _strength(mask, rng) * field
    return _resized(odds.sigmoid(), size) * (ellipses(box, size) > 0)


def wandering(mask: Tensor, rng: Generator, reach: float = 9.0) -> Tensor:
    """An outline that wanders by up to about `reach` cells of 256."""
    size = mask.shape[-1]
    soft = blurred(mask, _between(1.0, 1.0 + reach, rng) * size / _SIDE)
    field = _strength(mask, rng) * _noise(len(mask), size, {5: 1.0, 10: 0.8, 24: 0.4}, rng)
    return (torch.logit(soft.clamp(0.004, 0.996)) + field + 0.9 * _normal(mask, rng)).sigmoid()


def grids(mask: Tensor, rng: Generator) -> Tensor:
    """The object's shares in a grid over its box, pasted back; half of them without probabilities."""
    box = boxes(mask)
    made = _pasted(_over(mask, box, (14, 14, 28, 28, 56)[_whole(5, rng)]), box, mask.shape[-1])
    return torch.where(_uniform(mask, rng) < 0.5, (made > 0.5).float(), made)


def from_boxes(mask: Tensor, rng: Generator) -> Tensor:
    """The prompts of the objects' boxes, most of them a little off."""
    box = boxes(mask)
    off = _jittered(box, 0.0, 0.05, rng)
    kept = torch.rand(len(box), 1, generator=rng, device=box.device) < 0.4
    return ellipses(torch.where(kept, box, off), mask.shape[-1])


def scribbles(mask: Tensor, rng: Generator) -> Tensor:
    """Discs on the object (1) and beside it (0) where nothing else is known; half of them inside a box."""
    b, size = len(mask), mask.shape[-1]
    around = ellipses(_jittered(boxes(mask), 0.02, 0.02, rng), size)
    prompt = torch.where(_uniform(mask, rng) < 0.5, around, torch.full_like(mask, UNKNOWN))
    centre = torch.arange(size, device=mask.device)
    for value, where, least in ((0.0, mask < 0.1, 0), (1.0, mask > 0.9, 1)):
        inner = -F.max_pool2d(-where.float(), 5, 1, 2)
        at = torch.multinomial(inner.flatten(1) + 1e-9, _DISCS, replacement=True, generator=rng)
        radius = torch.randint(2, 7, (b, _DISCS, 1, 1), generator=rng, device=mask.device)
        y, x = (part[:, :, None] for part in (at // size, at % size))
        distance = ((centre - y) ** 2)[:, :, :, None] + ((centre - x) ** 2)[:, :, None, :]
        wanted = torch.randint(least, _DISCS + 1, (b, 1, 1, 1), generator=rng, device=mask.device)
        drawn = (distance <= radius**2) & (torch.arange(_DISCS, device=mask.device)[:, None, None] < wanted)
        prompt = torch.where(drawn.any(1, keepdim=True) & where.any((1, 2, 3))[:, None, None, None], value, prompt)
    return prompt


def bite(prompt: Tensor, exact: Exact, rng: Generator) -> Tensor:
    """Now and then a part is missing, or one of the surroundings or of a neighbour is added."""
    mask, size = exact.mask, exact.mask.shape[-1]
    chance = _uniform(mask, rng)
    field = _noise(len(mask), size, {4: 1.0, 7: 0.6}, rng)
    blob = field > torch.where(chance < 0.22, 1.3, 0.3)
    near = torch.where(chance < 0.22, blurred(mask, 12.0 * size / _SIDE) > 0.02, exact.others > 0.5)
    missing = torch.where(blob, prompt * 0.1, prompt)
    added = torch.where(blob & near, prompt.clamp(min=0.85), prompt)
    return torch.where(chance > 0.30, prompt, torch.where(chance < 0.11, missing, added))


def blurred(mask: Tensor, sigma: float) -> Tensor:
    """Convolved with a Gaussian of so many cells, as two products with a matrix: any width takes the same time."""
    at = torch.arange(mask.shape[-1], device=mask.device, dtype=mask.dtype)
    matrix = torch.exp(-0.5 * ((at - at[:, None]) / max(sigma, 0.1)) ** 2)
    matrix = matrix / matrix.sum(1, keepdim=True)
    return matrix @ mask @ matrix.T


Drawer = Callable[[Exact, Generator], Tensor]

_KINDS: Mapping[str, tuple[float, Drawer, bool]] = {
    "box": (SHARES["box"], lambda exact, rng: from_boxes(exact.mask, rng), False),
    "scribbles": (SHARES["scribbles"], lambda exact, rng: scribbles(exact.mask, rng), False),
    "exact": (SHARES["exact"], lambda exact, rng: exact.mask, False),
    "grid": (SHARES["grid"], lambda exact, rng: grids(exact.mask, rng), False),
    "drawn": (
        SHARES["polygon"] + SHARES["GrabCut"],
        lambda exact, rng: exact.drawn[:, _whole(exact.drawn.shape[1], rng)][:, None],
        False,
    ),
    "mask head": (SHARES["mask head"], lambda exact, rng: mask_head(exact.mask, rng), True),
    "prototypes": (SHARES["prototypes"], lambda exact, rng: prototypes(exact.mask, rng), True),
    "wandering outline": (SHARES["wandering outline"], lambda exact, rng: wandering(exact.mask, rng), True),
    "blurred": (SHARES["blurred"], lambda exact, rng: blurred(exact.mask, 0.8), True),
}
"""Share of each kind of prompt, what draws it, and whether it is bitten and at times made binary."""


def _binary(prompt: Tensor, rng: Generator) -> Tensor:
    """Without probabilities, at a resolution of the image that may be lower than the crop's."""
    size = prompt.shape[-1]
    low = max(16, round(size * min(1.0, _between(0.25, 1.4, rng))))
    return _resized((_resized(prompt, low) > 0.5).float(), size)


def _resized(mask: Tensor, size: int) -> Tensor:
    """At size x size: an area's mean where it shrinks, bilinearly where it grows."""
    if size < mask.shape[-1]:
        return F.adaptive_avg_pool2d(mask, size)
    return F.interpolate(mask, size=(size, size), mode="bilinear", align_corners=False)


def _noise(b: int, size: int, shares: Mapping[int, float], rng: Generator) -> Tensor:
    """Sum of smooth normal noise of so many cells over the crop, each with its amplitude: (B, 1, size, size)."""
    total = torch.zeros(b, 1, size, size, device=rng.device)
    for cells, share in shares.items():
        field = torch.randn(b, 1, cells, cells, generator=rng, device=rng.device)
        if cells != size:
            field = F.interpolate(field, size=(size, size), mode="bicubic", align_corners=False)
        total += share * field
    return total


def _jittered(box: Tensor, least: float, most: float, rng: Generator) -> Tensor:
    """Every side moved by a normal error of a share of the box's width or height."""
    b = len(box)
    share = least + (most - least) * torch.rand(b, 1, generator=rng, device=box.device)
    span = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    moved = box + share * span * torch.randn(b, 4, generator=rng, device=box.device)
    return torch.cat([moved[:, :2], torch.maximum(moved[:, 2:], moved[:, :2] + 2)], 1)


def _inside(box: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Where the crop's columns and rows lie in each box, -1 to 1: two (B, S)."""
    centre = torch.arange(size, device=box.device) + 0.5
    return tuple(
        (2 * centre - box[:, k, None] - box[:, k + 2, None]) / (box[:, k + 2] - box[:, k])[:, None] for k in (0, 1)
    )


def _over(mask: Tensor, box: Tensor, cells: int) -> Tensor:
    """A mask's shares in cells over boxes: (B, 1, cells, cells)."""
    fine = cells * max(1, math.ceil(mask.shape[-1] / cells / 2))
    steps = (torch.arange(fine, device=mask.device) + 0.5) / fine
    x, y = (box[:, k, None] + steps * (box[:, k + 2] - box[:, k])[:, None] for k in (0, 1))
    b = len(mask)
    at = torch.stack([x[:, None, :].expand(b, fine, fine), y[:, :, None].expand(b, fine, fine)], -1)
    sampled = F.grid_sample(mask, at / mask.shape[-1] * 2 - 1, align_corners=False)
    return F.avg_pool2d(sampled, fine // cells)


def _pasted(cells: Tensor, box: Tensor, size: int) -> Tensor:
    """Cells over boxes as crops, bilinearly; 0 outside the boxes."""
    x, y = _inside(box, size)
    b = len(cells)
    at = torch.stack([x[:, None, :].expand(b, size, size), y[:, :, None].expand(b, size, size)], -1)
    made = F.grid_sample(cells, at, align_corners=False, padding_mode="border")
    return made * (at.abs() <= 1).all(-1)[:, None]


def _strength(mask: Tensor, rng: Generator) -> Tensor:
    """Amplitude of the noise that is added to log-odds: often little, at times much."""
    return 2.2 * _uniform(mask, rng) ** 1.5


def _uniform(mask: Tensor, rng: Generator) -> Tensor:
    return torch.rand(len(mask), 1, 1, 1, generator=rng, device=mask.device)


def _normal(mask: Tensor, rng: Generator) -> Tensor:
    return torch.randn(len(mask), 1, 1, 1, generator=rng, device=mask.device)


def _between(low: float, high: float, rng: Generator) -> float:
    return low + (high - low) * float(torch.rand(1, generator=rng, device=rng.device))


def _whole(below: int, rng: Generator) -> int:
    return int(torch.randint(below, (1,), generator=rng, device=rng.device))
