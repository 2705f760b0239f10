"""Rectangles of an image: where instances are refined, which of them meet, and at what scale they are worked on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crispmask.instances import Window

MAX_PIXELS = 4_000_000
"""A larger rectangle is refined at a lower resolution, with so many pixels.

Without a limit, one object that fills an image of 97 megapixels took 170 s and 6.3 GB; now 12 s and 1.6 GB. At four
megapixels the edge is still found to within a few pixels of such an image; a mask of 28 x 28 cells holds far less."""


class Rect(NamedTuple):
    """Half-open rectangle of pixels."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def area(self) -> int:
        """Pixels."""
        return (self.y1 - self.y0) * (self.x1 - self.x0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in an array (H, W, ...)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns at which the rectangle is refined: its own, or fewer above `MAX_PIXELS`."""
        height, width = self.shape
        shrink = math.sqrt(max(1.0, self.area / MAX_PIXELS))
        return max(1, round(height / shrink)), max(1, round(width / shrink))


def around(box: Sequence[float], window: Window, image_size: tuple[int, int], context: float, least: int) -> Rect:
    """A box with a margin, widened to the instance's window, cut to the image.

    Args:
        box: x0, y0, x1, y1 in pixels.
        window: of the instance.
        image_size: (H, W) in pixels.
        context: margin as a multiple of the box's sides.
        least: the smallest margin, pixels.
    """
    height, width = image_size
    x0, y0, x1, y1 = box
    margin_x, margin_y = max(context * (x1 - x0), least), max(context * (y1 - y0), least)
    return Rect(
        max(0, min(int(y0 - margin_y), window.y)),
        max(0, min(int(x0 - margin_x), window.x)),
        min(height, max(math.ceil(y1 + margin_y), window.y + window.height)),
        min(width, max(math.ceil(x1 + margin_x), window.x + window.width)),
    )


def overlapping(rects: Mapping[int, Rect]) -> list[list[int]]:
    """Groups of instances whose rectangles are connected by overlaps, each in rising order."""
    edges = np.array(list(rects.values()), np.int64).reshape(-1, 4)
    group = np.arange(len(edges))  # of each rectangle, the last one of its group
    for k, (y0, x0, y1, x1) in enumerate(edges):
        before = edges[:k]
        touching = (y0 < before[:, 2]) & (before[:, 0] < y1) & (x0 < before[:, 3]) & (before[:, 1] < x1)
        group[:k][np.isin(group[:k], group[:k][touching])] = k
    made: dict[int, list[int]] = {key: [] for key in np.unique(group).tolist()}
    for i, key in zip(rects, group.tolist(), strict=True):
        made[key].append(i)
    return [sorted(members) for members in made.values()]


def union(rects: Sequence[Rect]) -> Rect:
    """The smallest rectangle that holds all of them."""
    return Rect(min(r.y0 for r in rects), min(r.x0 for r in rects), max(r.y1 for r in rects), max(r.x1 for r in rects))
