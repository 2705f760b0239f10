"""`resampling` on torch tensors: many parts of images and maps at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from crispmask.crf.torch_meanfield import Windows
from crispmask.refinement.crops import Crop

_TAPS = 4
"""Taps that are added up at a time: more need fewer launches, and more memory."""


@dataclass(frozen=True)
class Taps:
    """Which places of its part each place of a result is made of, along one axis.

    Attributes:
        counts: int64 (N,), places of each of N results; they follow one another in the rows of the others.
        index: int64 (P, K), where they are.
        weights: float32 (P, K), their weights; 0 where there is none.
    """

    counts: NDArray[np.int64]
    index: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def make(cls, start: ArrayLike, end: ArrayLike, counts: ArrayLike, lengths: ArrayLike) -> Taps:
        """Pillow's bilinear filter.

        Args:
            start, end: (N,), which stretch of each part becomes its result; it may have fractions.
            counts: (N,), places of each result.
            lengths: (N,), places of each part; those beside the stretch count too.
        """
        counts = np.asarray(counts, np.int64)
        item, place = _items(counts)
        start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
        if (end - start == counts).all() and (start == np.floor(start)).all():  # as it is
            index = place + start.astype(np.int64)[item]
            return cls(counts, index[:, None], np.ones((len(index), 1), np.float32))
        step = ((end - start) / counts)[item].astype(np.float64)
        centre = start[item] + (place + 0.5) * step
        support = np.maximum(step, 1)
        low = np.maximum((centre - support + 0.5).astype(np.int64), 0)
        high = np.minimum((centre + support + 0.5).astype(np.int64), np.asarray(lengths)[item])
        index = low[:, None] + np.arange(max(1, (high - low).max(initial=0)))
        distance = np.abs(index + 0.5 - centre[:, None]) / support[:, None]
        weights = np.where(index < high[:, None], np.maximum(1 - distance, 0), 0)
        index = np.minimum(index, high[:, None] - 1)
        return cls(counts, index, (weights / weights.sum(1, keepdims=True)).astype(np.float32))

    @classmethod
    def of_crops(cls, crops: Sequence[Crop], image_sizes: Sequence[tuple[int, int]], axis: int) -> Taps:
        """What the network's cells are made of, in rows (axis 0) or columns (1) of what `Crop.reduced` gives.

        Places that are negative, or beyond its end, lie outside the image: see `within`.
        """
        shrink = np.array([crop.shrink for crop in crops], np.int64)
        sides = np.array([crop.side for crop in crops]) // shrink
        taps = cls.make(np.zeros_like(sides), sides, [crop.size for crop in crops], sides)
        first = np.array([crop.rect(size)[axis] for crop, size in zip(crops, image_sizes, strict=True)])
        offset = (first - [(crop.top, crop.left)[axis] for crop in crops]) // shrink
        item, _ = _items(taps.counts)
        return cls(taps.counts, taps.index - offset[item, None], taps.weights)

    def within(self, first: ArrayLike, lengths: ArrayLike) -> Taps:
        """The same of parts that begin at `first` (N,) and have `lengths` (N,) places; beside them is nothing."""
        item, _ = _items(self.counts)
        index = self.index - np.asarray(first)[item, None]
        there = (index >= 0) & (index < np.asarray(lengths)[item, None])
        return Taps(self.counts, np.where(there, index, 0), np.where(there, self.weights, np.float32(0)))


def resampled(
    source: Tensor,
    starts: ArrayLike,
    strides: ArrayLike,
    heights: ArrayLike,
    down: Taps,
    across: Taps,
    places: Windows | None = None,
) -> Tensor:
    """The results of many parts, one after the other, row by row.

    Args:
        source: (M, C), values of all parts; of uint8 ones the results are rounded.
        starts: (N,), where the first row and column of each part is in it.
        strides: (N,), from one row of a part to the next.
        heights: (N,), rows of each part.
        down, across: along its rows, along its columns.
        places: of the results, where they are known already.

    Returns:
        float32 (sum of the results' places, C), on the device of `source`.
    """
    device, widths, rounding = source.device, across.counts, source.dtype == torch.uint8
    firsts = _firsts(np.asarray(heights) * widths)
    facts = _on(device, np.stack([np.asarray(v, np.int64) for v in (starts, strides, firsts, widths)]))
    wide = Windows(list(zip(np.asarray(heights).tolist(), widths.tolist(), strict=True)), device)
    first = torch.addcmul(facts[0][wide.window], facts[1][wide.window], wide.places[0])
    values = _weighted(source, first, None, wide, 1, across)
    if places is None:
        places = Windows(list(zip(down.counts.tolist(), widths.tolist(), strict=True)), device)
    first = facts[2][places.window] + places.places[1]
    values = _weighted(values, first, facts[3][places.window], places, 0, down)
    return torch.floor_(values + 0.5) if rounding else values


def _weighted(source: Tensor, first: Tensor, step: Tensor | None, points: Windows, axis: int, taps: Taps) -> Tensor:
    """Of each point the weighted sum of values that lie `step` apart, from `first` on; taps are those of its `axis`."""
    index, weights = _on(source.device, taps.index), _on(source.device, taps.weights)
    row = _on(source.device, _firsts(taps.counts))[points.window] + points.places[axis]
    total = None
    for k in range(0, index.shape[1], _TAPS):
        at = index[:, k : k + _TAPS][row]
        at = at + first[:, None] if step is None else torch.addcmul(first[:, None], at, step[:, None])
        part = (source[at] * weights[:, k : k + _TAPS][row][:, :, None]).sum(1)
        total = part if total is None else total + part
    assert total is not None  # there is one tap at least
    return total


def _on(device: torch.device, array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _items(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of places that follow one another, `counts` of each item: the item, and the number within it."""
    item = np.repeat(np.arange(len(counts)), counts)
    return item, np.arange(len(item)) - _firsts(counts)[item]


def _firsts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where those of each item begin."""
    return np.cumsum(counts) - counts
