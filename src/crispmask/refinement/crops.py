"""The square of the image in which the mask network sees an instance, and the way back to the image's pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispmask.image.scaling import reduced
from crispmask.instances import Window
from crispmask.refinement.resampling import resampled, taps
from crispmask.refinement.windows import Rect

CONTEXT_MIN = 8
"""So many pixels a crop is larger than its frame's multiple of the box."""

INSIDE, CORNER = 0.7, 0.3
"""The prompt that a box makes: the ellipse that touches its sides, and the rest of the box; 0 outside."""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels, half-open."""


class Frame(NamedTuple):
    """How much of the image a crop shows, and how finely.

    Attributes:
        context: side of the crop, as a multiple of the box's longer side.
        size: side of the network's input, in cells; time goes with its square.
    """

    context: float
    size: int


WIDE = (Frame(1.5, 256),)
"""Of boxes, of marks, and of masks that may be right already or have any error."""

PREDICTED = (Frame(1.5, 192), Frame(1.3, 224))
"""Of masks that a model predicted: they gain as much or more, with a third fewer cells (docs/learn.md has figures).

A small object is not enlarged as much; a large one has as many cells as in `WIDE`, and less around it."""


def bounded(box: Box, image_size: tuple[int, int]) -> Box:
    """A box, cut off where it goes beyond an image of (H, W) pixels by more than the image's own size.

    Detectors overshoot the edge; farther out nothing changes but the numbers, which could become too large for a crop.
    """
    height, width = image_size
    x0, y0, x1, y1 = box
    return max(x0, -width), max(y0, -height), min(x1, 2 * width), min(y1, 2 * height)


@dataclass(frozen=True)
class Crop:
    """A square of the image; it may leave the image, whose outside is black.

    Attributes:
        left, top, side: in pixels of the image.
        size: side of the network's input, in cells.
    """

    left: int
    top: int
    side: int
    size: int

    @classmethod
    def around(cls, box: Box, frames: Sequence[Frame] = WIDE) -> Crop:
        """The crop of an object with this box, in the first of the frames that does not shrink it, or the last."""
        x0, y0, x1, y1 = box
        for context, size in frames:
            side = math.ceil(context * max(x1 - x0, y1 - y0) + CONTEXT_MIN)
            if side <= size:
                break
        left, top = math.floor((x0 + x1) / 2 - side / 2), math.floor((y0 + y1) / 2 - side / 2)
        return cls(left, top, side, size)

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The network's view of an image (H, W, 3): uint8 (S, S, 3)."""
        inside = self.rect((image.shape[0], image.shape[1]))
        if self.shrink > 1:
            return self._resized(self.reduced(image[inside.slices]), 0, 0, inside)
        return self._resized(image, inside.y0, inside.x0, inside)

    def mask(self, window: Window, image_size: tuple[int, int]) -> NDArray[np.float32]:
        """The network's view of a probability map: float32 (S, S) in [0, 1]."""
        inside = self.rect(image_size)
        return np.clip(self._resized(self.reduced(window.over(inside)), 0, 0, inside), 0, 1)

    def ellipse(self, box: Box) -> NDArray[np.float32]:
        """The prompt of a box: float32 (S, S), `INSIDE` on the ellipse, `CORNER` on the rest of the box, 0 outside."""
        v, u = self.across_box(box)
        within = (np.abs(v) <= 1)[:, None] & (np.abs(u) <= 1)
        return np.where(within, np.where(v[:, None] ** 2 + u**2 <= 1, INSIDE, CORNER), 0).astype(np.float32)

    def across_box(self, box: Box) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where rows and columns of cells lie in a box: float32 (S,) both, -1 to 1 from side to side."""
        x0, y0, x1, y1 = box
        centre = (np.arange(self.size, dtype=np.float32) + 0.5) * (self.side / self.size)
        u = (2 * (centre + self.left) - x0 - x1) / max(x1 - x0, 1e-3)
        v = (2 * (centre + self.top) - y0 - y1) / max(y1 - y0, 1e-3)
        return v, u

    def back(self, values: NDArray[np.float32], rect: Rect, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Values of the crop's cells (S, S) over a rectangle of the image inside it, bilinearly: float32 `shape`."""
        y0, x0, y1, x1 = self.cells(rect)
        length = self.size, 0, self.size
        return resampled(values, (0, 0), taps(y0, y1, shape[0], *length), taps(x0, x1, shape[1], *length))

    def cells(self, rect: Rect) -> tuple[float, float, float, float]:
        """y0, x0, y1, x1 of a rectangle of the image in cells, cut off at the crop."""
        cells = self.size / self.side
        limits = [(v - start) * cells for v, start in zip(rect, (self.top, self.left) * 2, strict=True)]
        y0, x0, y1, x1 = (min(max(limit, 0.0), float(self.size)) for limit in limits)
        return y0, x0, y1, x1

    def rect(self, image_size: tuple[int, int]) -> Rect:
        """The part of the crop that lies inside an image of (H, W) pixels."""
        height, width = image_size
        return Rect(
            max(0, self.top), max(0, self.left), min(height, self.top + self.side), min(width, self.left + self.side)
        )

    @property
    def shrink(self) -> int:
        """Sides of the blocks of pixels that are averaged first: a crop of thousands of pixels never exists whole."""
        return max(1, self.side // (4 * self.size))

    def reduced(self, inner: NDArray[Any]) -> NDArray[Any]:
        """What of the crop lies inside the image, (h, w) or (h, w, 3), after that."""
        return reduced(inner, self.shrink) if self.shrink > 1 else inner

    def _resized(self, values: NDArray[Any], top: int, left: int, inside: Rect) -> NDArray[Any]:
        """The crop at the network's size.

        Args:
            values: (H, W) or (H, W, 3), blocks of `shrink` pixels; those of `inside` begin at row `top`, column `left`.
            inside: the part of the crop that lies inside the image.
        """
        side = self.side // self.shrink
        y, x = (inside.y0 - self.top) // self.shrink, (inside.x0 - self.left) // self.shrink
        height, width = -(-inside.shape[0] // self.shrink), -(-inside.shape[1] // self.shrink)
        rows = taps(0.0, float(side), self.size, side, y, min(y + height, side))
        columns = taps(0.0, float(side), self.size, side, x, min(x + width, side))
        return resampled(values, (top - y, left - x), rows, columns)
