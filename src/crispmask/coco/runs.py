"""Masks as runs of pixels: the decoder of COCO's compressed RLE, and many masks in flat arrays.

Source of the encoding: ``rleFrString`` in pycocotools' ``maskApi.c``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispmask.errors import DataError


def decode_counts(counts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The run lengths of compressed RLEs, all at once.

    Each character holds 6 bits above '0': five bits of the number, the lowest first, and one bit that says whether
    more follow; the sign is bit 4 of the last character. From the fourth run of a mask on, a number is the difference
    to the run two before.

    Args:
        counts: the ``counts`` of N masks.

    Returns:
        The runs of all masks one after the other, int64 (n,), and where each mask's runs begin and the last ones end,
        int64 (N + 1,). Runs can be negative where a string is damaged, and their sum is not checked.

    Raises:
        DataError: characters that are not part of the encoding, or a string that is cut short.
    """
    codes = np.frombuffer(b"".join(counts), np.uint8).astype(np.int64) - 48
    offsets = np.concatenate(([0], np.cumsum([len(text) for text in counts], dtype=np.int64)))
    if not len(codes):
        return np.zeros(0, np.int64), np.zeros(len(offsets), np.int64)
    if codes.min() < 0 or codes.max() > 63:
        raise DataError("the compressed RLE holds characters that do not belong there")
    last = codes & 32 == 0
    if not last[offsets[1:][np.diff(offsets) > 0] - 1].all():
        raise DataError("the compressed RLE is cut short")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    if (ends - starts).max() > 6:  # seven characters hold 35 bits, more than any image has pixels
        raise DataError("the compressed RLE holds a run longer than any image")
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts)
    negative = codes[ends] & 16 != 0
    numbers[negative] -= np.int64(1) << (5 * (place[ends[negative]] + 1))
    first = np.concatenate(([0], np.cumsum(last)))[offsets]
    position = _positions(first)
    for chain in (position % 2 == 1, (position % 2 == 0) & (position > 0)):
        numbers[chain] = _sums_by_mask(numbers[chain], np.concatenate(([0], np.cumsum(chain)))[first])
    return numbers, first


def _positions(first: NDArray[np.int64]) -> NDArray[np.int64]:
    """The position of each run in its mask, from 0."""
    return np.arange(first[-1]) - np.repeat(first[:-1], np.diff(first))


def _sums_by_mask(values: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cumulative sums that start anew at each mask."""
    sums = np.concatenate(([0], np.cumsum(values)))
    return np.asarray(sums[1:] - np.repeat(sums[first[:-1]], np.diff(first)))


@dataclass(frozen=True, eq=False)
class MaskRuns:
    """N masks as runs of foreground pixels.

    A run is the pixels [start, end) of its image, counted down the columns. Mask i has the runs
    ``first[i] ... first[i] + count[i] - 1``, in ascending order and with background between them.

    Attributes:
        starts, ends: int64 (runs,).
        first, count: int64 (N,).
        area: float64 (N,), pixels.
        heights, widths: int64 (N,), of the images in pixels.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    area: NDArray[np.float64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]

    @classmethod
    def from_counts(cls, counts: Sequence[bytes], heights: NDArray[np.int64], widths: NDArray[np.int64]) -> MaskRuns:
        """From the ``counts`` of compressed RLEs.

        Raises:
            DataError: damaged counts, or runs that do not add up to an image. The message does not say of which mask.
        """
        runs, first = decode_counts(counts)
        ends = _sums_by_mask(runs, first)
        total = np.where(np.diff(first) > 0, np.concatenate((ends, [0]))[first[1:] - 1], 0)
        if (len(runs) and runs.min() < 0) or (total != heights * widths).any():
            raise DataError("the RLE has a negative run or does not cover its image")
        mask = np.repeat(np.arange(len(counts)), np.diff(first))
        shown = (_positions(first) % 2 == 1) & (runs > 0)
        ends, starts, mask = ends[shown], (ends - runs)[shown], mask[shown]
        # A background run of length 0 separates nothing: the runs on both sides of it are one.
        joined = (starts[1:] == ends[:-1]) & (mask[1:] == mask[:-1])
        begins, closes = np.concatenate(([True], ~joined)), np.concatenate((~joined, [True]))
        if not len(starts):
            begins = closes = np.zeros(0, bool)
        return cls.from_runs(starts[begins], ends[closes], mask[begins], heights, widths)

    @classmethod
    def from_masks(cls, masks: Sequence[NDArray[np.bool_]]) -> MaskRuns:
        """From masks bool (H, W), each of a whole image."""
        starts, ends = [], []
        for mask in masks:
            padded = np.zeros(mask.size + 2, bool)
            padded[1:-1] = mask.ravel(order="F")
            changes = np.flatnonzero(padded[1:] != padded[:-1])
            starts.append(changes[::2])
            ends.append(changes[1::2])
        owner = np.repeat(np.arange(len(masks)), [len(part) for part in starts])
        shapes = np.array([mask.shape for mask in masks], np.int64).reshape(-1, 2)
        nothing = [np.zeros(0, np.int64)]
        return cls.from_runs(
            np.concatenate(nothing + starts), np.concatenate(nothing + ends), owner, shapes[:, 0], shapes[:, 1]
        )

    @classmethod
    def from_runs(
        cls,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        mask: NDArray[np.int64],
        heights: NDArray[np.int64],
        widths: NDArray[np.int64],
    ) -> MaskRuns:
        """From runs and the number of each one's mask, int64 (runs,), ascending."""
        count = np.bincount(mask, minlength=len(heights)).astype(np.int64)
        return cls(
            np.ascontiguousarray(starts, np.int64),
            np.ascontiguousarray(ends, np.int64),
            np.concatenate(([0], np.cumsum(count)[:-1])).astype(np.int64)[: len(heights)],
            count,
            np.bincount(mask, weights=ends - starts, minlength=len(heights)).astype(np.float64),
            np.ascontiguousarray(heights, np.int64),
            np.ascontiguousarray(widths, np.int64),
        )

    def __len__(self) -> int:
        return len(self.first)
