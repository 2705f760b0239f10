"""Instances refined on a torch device, many at a time (extra ``torch``): all that is done for each of their pixels.

Crops, prompts, the network, the gate's features, the way back to the image and the CRF work on what lies in the
device's memory already; the CPU hears of a few numbers for each instance, decides, and gets the marginals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from threading import BoundedSemaphore
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispmask.crf.on_device import fetched, infer_points
from crispmask.crf.torch_meanfield import Windows
from crispmask.params import CRFParams
from crispmask.refinement.answer import rect_of, scale_of
from crispmask.refinement.colour import LINEAR, TO_XYZ
from crispmask.refinement.crops import CORNER, INSIDE
from crispmask.refinement.evidence import may_sample, offset, spacing
from crispmask.refinement.instance import InstanceView
from crispmask.refinement.learned import Decision, LearnedParams
from crispmask.refinement.reach import beyond_reach, covering
from crispmask.refinement.solve import position_bandwidth
from crispmask.refinement.tensor_features import looked_at
from crispmask.refinement.tensor_resampling import Taps, resampled
from crispmask.refinement.unary import Unary
from crispmask.refinement.windows import Rect

_TOGETHER = 64
"""Instances at a time: the network takes some 3 GB for as many."""

_MOST_POINTS = 1 << 24
"""Pixels of crops that are made together, and of windows that share a lattice, unless one has more."""

_AT_WORK = BoundedSemaphore(2)
"""Threads that give the device work at a time: more wait for one another, and their memory adds up. While one prepares,
the device works for the other; the rest read photos and write masks."""


@dataclass(frozen=True)
class Solved:
    """What came of an instance.

    Attributes:
        number: its place among those that were given.
        decision: whether it is refined.
        rect: where in the image the marginals lie.
        marginals: float32 (h, w), at the rectangle's `grid`; None where it is left alone.
    """

    number: int
    decision: Decision
    rect: Rect
    marginals: NDArray[np.float32] | None


def solved(views: Sequence[InstanceView], params: LearnedParams, device: torch.device) -> Iterator[list[Solved]]:
    """Refine instances, of one image or of several; a few at a time, each once.

    Args:
        views: the instances.
        params: of the refinement.
        device: where to work.
    """
    pixels = _Pixels(views, device)
    for lot in _lots(views, params):
        with _AT_WORK:
            some = _Judged.of(lot, views, params, pixels)
            done = {k: Solved(lot[k], d, some.rects[k], None) for k, d in enumerate(some.decisions)}
            for part in some.parts():
                rects = [some.rects[k] for k in part]
                windows = Windows([rect.grid for rect in rects], device)
                colours = pixels.colours([some.views[k] for k in part], rects, windows, params.crf)
                thetas = [position_bandwidth(params.crf, some.scales[k], some.rects[k]) for k in part]
                odds = some.odds_over(part, windows, params)
                counts = _counts(odds, windows, thetas, params.crf) if may_sample(params.crf) else None
                found = infer_points(odds, colours, windows, thetas, params.crf, counts)
                for k, marginals in zip(part, fetched(found, windows.shapes), strict=True):
                    done[k] = Solved(lot[k], some.decisions[k], some.rects[k], marginals)
        yield list(done.values())


def unaries(
    views: Sequence[InstanceView], params: LearnedParams, device: torch.device
) -> list[tuple[Unary | None, Decision]]:
    """`LearnedParams.decide` for many instances, of one image or of several."""
    pixels = _Pixels(views, device)
    made: dict[int, tuple[Unary | None, Decision]] = {}
    for lot in _lots(views, params):
        with _AT_WORK:
            some = _Judged.of(lot, views, params, pixels)
            made |= {i: (None, decision) for i, decision in zip(lot, some.decisions, strict=True)}
            for part in some.parts():
                windows = Windows([some.rects[k].grid for k in part], device)
                odds = fetched(some.odds_over(part, windows, params), windows.shapes)
                for k, over in zip(part, odds, strict=True):
                    unary = Unary(over, some.rects[k], some.scales[k], params.crf, sampled=True)
                    made[lot[k]] = unary, some.decisions[k]
    return [made[i] for i in range(len(views))]


def _lots(views: Sequence[InstanceView], params: LearnedParams) -> Iterator[list[int]]:
    """Numbers of instances that the network sees at the same time."""
    alike: dict[Any, list[int]] = {}
    for i, view in enumerate(views):
        alike.setdefault((view.crop.size, params.passes(view), view.from_box), []).append(i)
    for some in alike.values():
        # A long thin object has a large crop, and one that is known as probabilities may have a large window.
        sizes = [max(views[i].window.probabilities.size, views[i].crop.side ** 2) for i in some]
        for part in _portions(some, sizes):
            yield from (part[k : k + _TOGETHER] for k in range(0, len(part), _TOGETHER))


def _portions(numbers: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Numbers in order, together up to `_MOST_POINTS`."""
    part: list[int] = []
    points = 0
    for number, size in zip(numbers, sizes, strict=True):
        if part and points + size > _MOST_POINTS:
            yield part
            part, points = [], 0
        part.append(number)
        points += size
    if part:
        yield part


class _Pixels:
    """Images in the device's memory, one after the other."""

    def __init__(self, views: Sequence[InstanceView], device: torch.device) -> None:
        self.device = device
        self._starts: dict[int, int] = {}
        self._reduced: dict[int, tuple[int, int, int]] = {}  # of crops of thousands of pixels: start, rows, columns
        images, total = [], 0
        for view in views:
            if id(view.image) not in self._starts:
                self._starts[id(view.image)] = total
                images.append(_on(device, view.image.reshape(-1, 3)))
                total += len(images[-1])
            if view.crop.shrink > 1:
                part = view.crop.reduced(view.image[view.crop.rect(view.image_size).slices])
                self._reduced[id(view)] = total, part.shape[0], part.shape[1]
                images.append(_on(device, part.reshape(-1, 3)))
                total += len(images[-1])
        self._rgb = torch.cat(images)

    def crops(self, views: Sequence[InstanceView], taps: tuple[Taps, Taps], cells: Windows) -> Tensor:
        """What the network sees: float32 (N, S, S, 3), whole numbers from 0 to 255; see `_prompts`."""
        starts, strides, heights, widths = zip(*(self._part(view) for view in views), strict=True)
        nothing = np.zeros(len(views), np.int64)
        down, across = taps[0].within(nothing, heights), taps[1].within(nothing, widths)
        return resampled(self._rgb, starts, strides, heights, down, across, cells).view(_shape(views, 3))

    def _part(self, view: InstanceView) -> tuple[int, int, int, int]:
        """What an instance's crop is made of: its start, the step from row to row, rows and columns."""
        if id(view) in self._reduced:
            start, height, width = self._reduced[id(view)]
            return start, width, height, width
        rect, stride = view.crop.rect(view.image_size), view.image_size[1]
        return self._start(view) + rect.y0 * stride + rect.x0, stride, *rect.shape

    def colours(
        self, views: Sequence[InstanceView], rects: Sequence[Rect], windows: Windows, params: CRFParams
    ) -> Tensor:
        """What the CRF compares over rectangles, at the places of `windows`: float32 (P, 3)."""
        starts = [
            self._start(view) + rect.y0 * view.image_size[1] + rect.x0 for view, rect in zip(views, rects, strict=True)
        ]
        down, across = (
            Taps.make(
                [0] * len(rects),
                [rect.shape[axis] for rect in rects],
                [rect.grid[axis] for rect in rects],
                [rect.shape[axis] for rect in rects],
            )
            for axis in (0, 1)
        )
        widths = [view.image_size[1] for view in views]
        rgb = resampled(self._rgb, starts, widths, [rect.shape[0] for rect in rects], down, across, windows)
        return _lab(rgb) if params.colour == "lab" else rgb

    def _start(self, view: InstanceView) -> int:
        return self._starts[id(view.image)]


@dataclass(frozen=True, eq=False)
class _Judged:
    """Instances with the network's answers and what is decided for them.

    Attributes:
        views: N instances.
        odds: (N, S, S), on the device.
        decisions: of each.
        rects, scales: of each, as the CRF takes them.
    """

    views: list[InstanceView]
    odds: Tensor
    decisions: list[Decision]
    rects: list[Rect]
    scales: list[float]

    @classmethod
    def of(
        cls, numbers: Sequence[int], all_views: Sequence[InstanceView], params: LearnedParams, pixels: _Pixels
    ) -> _Judged:
        views = [all_views[i] for i in numbers]
        crops, sizes = [view.crop for view in views], [view.image_size for view in views]
        taps = Taps.of_crops(crops, sizes, 0), Taps.of_crops(crops, sizes, 1)
        cells = Windows([(crop.size, crop.size) for crop in crops], pixels.device)
        prompts = _ellipses(views, pixels.device) if views[0].from_box else _prompts(views, taps, cells)
        odds = params.network_on(pixels.device)(pixels.crops(views, taps, cells), prompts, params.passes(views[0]))
        features, found, masks, possible = looked_at(views, prompts, odds)
        margin = params.crf.context_min
        rects = [rect_of(view.crop, rect, view.image_size, margin) for view, rect in zip(views, possible, strict=True)]
        scales = [scale_of(view.crop, mask) for view, mask in zip(views, masks, strict=True)]
        decisions = params.decisions(views, features, found)
        for k, decision in enumerate(decisions):
            if decision.reach is not None:
                rects[k] = covering(rects[k], views[k].window)
        return cls(views, odds, decisions, rects, scales)

    def parts(self) -> Iterator[list[int]]:
        """Those that are refined, as many at a time as share a lattice."""
        refined = [k for k, decision in enumerate(self.decisions) if decision.refined]
        return _portions(refined, [prod(self.rects[k].grid) for k in refined])

    def odds_over(self, part: Sequence[int], windows: Windows, params: LearnedParams) -> Tensor:
        """The CRF's unaries over the rectangles of some, at the places of `windows`: float32 (P,)."""
        size = self.odds.shape[1]
        cells = np.array([self.views[k].crop.cells(self.rects[k]) for k in part])
        grids = np.array([self.rects[k].grid for k in part])
        lengths = [size] * len(part)
        down, across = (Taps.make(cells[:, a], cells[:, a + 2], grids[:, a], lengths) for a in (0, 1))
        starts = np.array(part) * size * size
        back = resampled(self.odds.reshape(-1, 1), starts, lengths, lengths, down, across, windows)[:, 0]
        odds = (back / params.temperature).clamp(-params.crf.limit, params.crf.limit)
        if all(self.decisions[k].reach is None for k in part):
            return odds
        certain = _on(odds.device, np.concatenate([self._beyond_reach(k) for k in part]))
        return torch.where(certain != 0, certain, odds)

    def _beyond_reach(self, k: int) -> NDArray[np.float32]:
        """What is certain over the rectangle of an instance: float32 (h * w,), 0 where nothing is."""
        reach, rect = self.decisions[k].reach, self.rects[k]
        if reach is None:
            return np.zeros(prod(rect.grid), np.float32)
        return beyond_reach(self.views[k].window, rect, reach).ravel()


def _prompts(views: Sequence[InstanceView], taps: tuple[Taps, Taps], cells: Windows) -> Tensor:
    """The network's view of masks: float32 (N, S, S) in [0, 1].

    Args:
        views: N instances.
        taps: of their crops, along rows and along columns; see `Taps.of_crops`.
        cells: of all crops.
    """
    maps, first = [], []
    for view in views:
        rect, window = view.crop.rect(view.image_size), view.window
        as_it_is = view.crop.shrink == 1
        maps.append(window.probabilities if as_it_is else view.crop.reduced(window.over(rect)))
        first.append((window.y - rect.y0, window.x - rect.x0) if as_it_is else (0, 0))
    heights, widths = zip(*(probabilities.shape for probabilities in maps), strict=True)
    down, across = (taps[a].within(np.array(first)[:, a], (heights, widths)[a]) for a in (0, 1))
    flat = _on(cells.window.device, np.concatenate([probabilities.reshape(-1) for probabilities in maps]))[:, None]
    areas = np.array([probabilities.size for probabilities in maps])
    seen = resampled(flat, np.cumsum(areas) - areas, widths, heights, down, across, cells)
    return seen.view(_shape(views)).clamp(0, 1)


def _shape(views: Sequence[InstanceView], *channels: int) -> tuple[int, ...]:
    size = views[0].crop.size
    return len(views), size, size, *channels


def _ellipses(views: Sequence[InstanceView], device: torch.device) -> Tensor:
    """The prompts of boxes; see `Crop.ellipse`."""
    rows, columns = zip(*(view.crop.across_box(view.box) for view in views), strict=True)
    v, u = _on(device, np.stack(rows))[:, :, None], _on(device, np.stack(columns))[:, None, :]
    inner = torch.where(v**2 + u**2 <= 1, INSIDE, CORNER)
    return torch.where((v.abs() <= 1) & (u.abs() <= 1), inner, 0.0)


def _counts(odds: Tensor, windows: Windows, thetas: Sequence[float], params: CRFParams) -> Tensor:
    """`evidence.counts` of the windows' points, float32 (P,)."""
    steps = [spacing(theta) for theta in thetas]
    step = _on(odds.device, np.array(steps))[windows.window]
    taken = torch.ones_like(odds, dtype=torch.bool)
    for axis, place in enumerate(windows.places):
        firsts = [offset(shape[axis], k) for shape, k in zip(windows.shapes, steps, strict=True)]
        taken &= (place - _on(odds.device, np.array(firsts))[windows.window]) % step == 0
    return torch.where(odds.abs() < params.limit, 1.0, torch.where(taken, (step * step).to(odds), 0.0))


def _lab(rgb: Tensor) -> Tensor:
    """`rgb_to_lab` of whole numbers from 0 to 255, float32 (P, 3)."""
    linear, matrix = _on(rgb.device, LINEAR)[rgb.long()], _on(rgb.device, TO_XYZ)
    xyz = (linear[:, :, None] * matrix).sum(1)
    f = torch.where(xyz > 0.008856, xyz ** (1 / 3), 7.787 * xyz + 16 / 116)
    return torch.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def _on(device: torch.device, array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)
