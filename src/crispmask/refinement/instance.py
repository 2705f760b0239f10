"""One instance of an image, as the refinement sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crispmask.image.scaling import resized
from crispmask.instances import Instances, Window
from crispmask.params import CRFParams
from crispmask.refinement.crops import PREDICTED, WIDE, Box, Crop, bounded
from crispmask.refinement.unary import Unary, is_binary, log_odds, soften
from crispmask.refinement.windows import around


@dataclass(frozen=True, eq=False)
class InstanceView:
    """An instance with its image: what its prompt is, where it is, and how large.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        window: its mask's probabilities.
        box: of the object, x0, y0, x1, y1 in pixels; where a detector gave none, its window's.
        score: of its detector, in [0, 1]; 1 where there is none.
        from_box: whether only the box is known; the window is then what `prompts.from_boxes` made of it.
    """

    image: NDArray[np.uint8]
    window: Window
    box: Box
    score: float = 1.0
    from_box: bool = False

    @classmethod
    def of(cls, image: NDArray[np.uint8], instances: Instances, i: int, from_box: bool = False) -> InstanceView:
        """Instance i of those found in an image."""
        window = instances.windows[i]
        x0, y0, x1, y1 = (float(v) for v in instances.boxes[i])
        if x1 <= x0 or y1 <= y0:
            x0, y0, x1, y1 = window.x, window.y, window.x + window.width, window.y + window.height
        return cls(image, window, (x0, y0, x1, y1), float(instances.scores[i]), from_box)

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", bounded(self.box, self.image_size))

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def scale(self) -> float:
        """Size of the object: the square root of its box's area, pixels; at least 1."""
        x0, y0, x1, y1 = self.box
        return math.sqrt(max((x1 - x0) * (y1 - y0), 1.0))

    @cached_property
    def binary(self) -> bool:
        """Whether its mask came without probabilities."""
        return is_binary(self.window.probabilities)

    @property
    def predicted(self) -> bool:
        """Whether a model made its mask: it has a score below 1."""
        return self.score < 1

    @cached_property
    def crop(self) -> Crop:
        """The square in which the mask network sees it."""
        if self.from_box:
            return Crop.around(self.box)
        return Crop.around(self.window.mask_box, PREDICTED if self.predicted else WIDE)

    @cached_property
    def prompt(self) -> NDArray[np.float32]:
        """The mask network's prompt, float32 (S, S) in [0, 1]."""
        if self.from_box:
            return self.crop.ellipse(self.box)
        return self.crop.mask(self.window, self.image_size)

    def unary(self, params: CRFParams) -> Unary:
        """The unary of its own mask, softened as its kind needs, with a fixed setting of the CRF."""
        rect = around(self.box, self.window, self.image_size, params.context, params.context_min)
        probabilities = resized(self.window.over(rect), rect.grid)
        softened = soften(probabilities, params.smoothing if self.binary else params.smoothing_soft)
        return Unary(log_odds(softened, params.confidence), rect, self.scale, params)
