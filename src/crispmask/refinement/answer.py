"""What the mask network says of one instance, and the unary term that the CRF takes from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispmask.params import CRFParams
from crispmask.refinement.crops import Crop
from crispmask.refinement.unary import Unary
from crispmask.refinement.windows import Rect

POSSIBLE = math.log(0.05 / 0.95)
"""Log-odds from which on the CRF looks at a pixel, and at those within `context_min` of it."""


@dataclass(frozen=True, eq=False)
class Answer:
    """The network's answer over its crop.

    Attributes:
        crop: the square of the image.
        prompt: float32 (S, S) in [0, 1], what the network was given first.
        odds: float32 (S, S), log-odds of the object.
    """

    crop: Crop
    prompt: NDArray[np.float32]
    odds: NDArray[np.float32]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Bool (S, S)."""
        return self.odds > 0

    @property
    def scale(self) -> float:
        """Size of the object: square root of the area of its mask's box, pixels of the image; at least 1."""
        return scale_of(self.crop, bounds(self.mask))

    def unary(self, image_size: tuple[int, int], params: CRFParams, temperature: float = 1.0) -> Unary:
        """The unary term over what is possible and a margin, at the image's resolution.

        Args:
            image_size: (H, W) in pixels.
            params: of the CRF; its `context_min` is the margin, its `confidence` bounds the log-odds.
            temperature: what the log-odds are divided by.
        """
        rect = rect_of(self.crop, bounds(self.odds > POSSIBLE), image_size, params.context_min)
        limit = np.float32(params.limit)
        odds = np.clip(self.crop.back(self.odds, rect, rect.grid) / np.float32(temperature), -limit, limit)
        return Unary(odds, rect, self.scale, params, sampled=True)


def bounds(mask: NDArray[np.bool_]) -> Rect:
    """First and last row, first and last column of a mask, half-open; all of them where it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return Rect(0, 0, *mask.shape)
    return Rect(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def scale_of(crop: Crop, mask: Rect) -> float:
    """Size of an object whose mask has these bounds in cells of the crop; see `Answer.scale`."""
    return max(1.0, math.sqrt(mask.area) * crop.side / crop.size)


def rect_of(crop: Crop, possible: Rect, image_size: tuple[int, int], margin: int) -> Rect:
    """Where in the image the CRF looks at an object.

    Args:
        crop: of the object.
        possible: bounds of the cells in which it may be.
        image_size: (H, W) in pixels.
        margin: pixels beside them.
    """
    inside, cell = crop.rect(image_size), crop.side / crop.size
    rect = Rect(
        max(inside.y0, math.floor(crop.top + (possible.y0 - 0.5) * cell) - margin),
        max(inside.x0, math.floor(crop.left + (possible.x0 - 0.5) * cell) - margin),
        min(inside.y1, math.ceil(crop.top + (possible.y1 + 0.5) * cell) + margin),
        min(inside.x1, math.ceil(crop.left + (possible.x1 + 0.5) * cell) + margin),
    )
    if rect.y0 >= rect.y1 or rect.x0 >= rect.x1:  # all that is possible lies outside the image
        return inside
    return rect
