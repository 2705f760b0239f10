"""Masks as runs of pixels: the decoder of COCO's compressed RLE, and many masks in flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispmask.errors import DataError

_REASONS = {
    1: "the compressed RLE holds characters that do not belong there",
    2: "the compressed RLE is cut short",
    3: "the compressed RLE holds a run longer than any image",
}


def decode_counts(counts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The run lengths of compressed RLEs, all at once.

    Args:
        counts: the ``counts`` of N masks.

    Returns:
        The runs of all masks one after the other, int64 (n,), and where each mask's runs begin and the last ones end,
        int64 (N + 1,). Runs can be negative where a string is damaged, and their sum is not checked.

    Raises:
        DataError: characters that are not part of the encoding, a string that is cut short, or a number that is too
            long.
    """
    from crispmask.coco import _kernels

    text = np.frombuffer(b"".join(counts), np.uint8)
    offsets = np.concatenate(([0], np.cumsum([len(part) for part in counts], dtype=np.int64))).astype(np.int64)
    runs, first = np.empty(len(text), np.int64), np.empty(len(offsets), np.int64)
    status = _kernels.decode(text, offsets, runs, first)
    if status != _kernels.OK:
        raise DataError(_REASONS[status])
    return runs[: first[-1]].copy(), first


def encode(runs: NDArray[np.int64]) -> str:
    """The ``counts`` of compressed RLE of a mask's run lengths int64 (n,), the first of the background."""
    from crispmask.coco import _kernels

    text = np.empty(7 * len(runs), np.uint8)
    return text[: _kernels.encode(runs, text)].tobytes().decode("ascii")


def runs_of_window(mask: NDArray[np.bool_], y: int, x: int, height: int, width: int) -> NDArray[np.int64]:
    """The run lengths of a mask that is empty outside a window of its image.

    Args:
        mask: bool (h, w), not empty in size.
        y, x: row and column of its first pixel in the image.
        height, width: of the image, pixels.

    Returns:
        int64 (n,) with the sum `height` times `width`, the first of the background, all others above zero.
    """
    # Down the columns, a row of background after each, so that a run ends with its column.
    columns = np.zeros((mask.shape[1], mask.shape[0] + 1), np.int8)
    columns[:, :-1] = mask.T
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=np.int8(0)))
    column, row = np.divmod(changes, columns.shape[1])
    places = (x + column) * height + y + row
    # Where the window is as high as its image, a run may go on in the next column.
    parted = places[2::2] != places[1:-1:2]
    kept = np.concatenate(([True], np.repeat(parted, 2), [True])) if len(places) else np.zeros(0, bool)
    runs = np.diff(places[kept], prepend=0, append=height * width)
    return runs if runs[-1] else runs[:-1]


def window_of_runs(runs: NDArray[np.int64], height: int) -> tuple[NDArray[np.bool_], int, int]:
    """The mask of run lengths in the smallest window that holds it: the inverse of `runs_of_window`.

    Args:
        runs: int64 (n,), not negative, of an image of `height` rows, the first of the background.

    Returns:
        bool (h, w), and row and column of its first pixel in the image; (0, 0) in size without a foreground pixel.
    """
    ends = np.cumsum(runs)[1::2]
    starts = ends - runs[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        return np.zeros((0, 0), np.bool_), 0, 0
    left, right = int(starts[0]) // height, (int(ends[-1]) - 1) // height + 1
    top, bottom = 0, height
    if (starts // height == (ends - 1) // height).all():
        top, bottom = int((starts % height).min()), int(((ends - 1) % height).max()) + 1
    rows = bottom - top
    # The same runs in the window's own count down the columns.
    begins = (starts // height - left) * rows + starts % height - top
    limits = np.stack([begins, begins + ends - starts], axis=1).ravel()
    lengths = np.diff(limits, prepend=0, append=rows * (right - left))
    values = np.arange(len(lengths)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, lengths).reshape(right - left, rows).T), top, left


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
        from crispmask.coco import _kernels

        runs, first = decode_counts(counts)
        starts, ends = (np.empty(len(runs) // 2 + 1, np.int64) for _ in range(2))
        count = np.empty(len(counts), np.int64)
        pixels = np.ascontiguousarray(heights * widths, np.int64)
        n, damaged = _kernels.foreground(runs, first, pixels, starts, ends, count)
        if damaged >= 0:
            raise DataError("the RLE has a negative run or does not cover its image")
        return cls.from_runs(starts[:n], ends[:n], np.repeat(np.arange(len(counts)), count), heights, widths)

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
