"""The parts of an image that instances are refined in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crispmask.instances import Instances

Rect = tuple[int, int, int, int]
"""y0, x0, y1, x1 in pixels, half-open."""


@dataclass(frozen=True)
class Region:
    """Half-open rectangle of pixels, and the size of the object in it (square root of the box area, pixels)."""

    y0: int
    x0: int
    y1: int
    x1: int
    scale: float

    @property
    def area(self) -> int:
        """Pixels."""
        return (self.y1 - self.y0) * (self.x1 - self.x0)

    def overlaps(self, other: Region) -> bool:
        """Whether they share a pixel."""
        return self.y0 < other.y1 and other.y0 < self.y1 and self.x0 < other.x1 and other.x0 < self.x1


def region_of(instances: Instances, i: int, context: float, context_min: int) -> Region:
    """The box of instance i with its context, widened to its window, cut to the image.

    Args:
        context: margin as a multiple of the box's sides; context_min: the least margin, pixels.
    """
    height, width = instances.image_size
    x0, y0, x1, y1 = (float(v) for v in instances.boxes[i])
    window = instances.windows[i]
    if x1 <= x0 or y1 <= y0:  # no usable box: the window itself
        x0, y0, x1, y1 = window.x, window.y, window.x + window.width, window.y + window.height
    margin_x, margin_y = max(context * (x1 - x0), context_min), max(context * (y1 - y0), context_min)
    return Region(
        max(0, min(int(y0 - margin_y), window.y)),
        max(0, min(int(x0 - margin_x), window.x)),
        min(height, max(int(np.ceil(y1 + margin_y)), window.y + window.height)),
        min(width, max(int(np.ceil(x1 + margin_x)), window.x + window.width)),
        float(np.sqrt(max(1.0, (x1 - x0) * (y1 - y0)))),
    )


def overlapping(regions: Mapping[int, Region]) -> list[list[int]]:
    """Groups of instances whose regions are connected by overlaps, each in rising order."""
    groups: list[list[int]] = []
    for i, region in regions.items():
        touching = [g for g in groups if any(region.overlaps(regions[j]) for j in g)]
        groups = [g for g in groups if g not in touching]
        groups.append(sorted([i, *(j for g in touching for j in g)]))
    return groups


def union(regions: list[Region]) -> Rect:
    """The smallest rectangle that holds all regions."""
    return (
        min(r.y0 for r in regions),
        min(r.x0 for r in regions),
        max(r.y1 for r in regions),
        max(r.x1 for r in regions),
    )
