"""`Matte`: the probabilities of an object in 8 bits, as they are kept and sent to the page."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.instances import Window

_numbers = count(1)


@dataclass(frozen=True, eq=False)
class Matte:
    """An object's probabilities in a window of the photo.

    Attributes:
        alpha: uint8 (h, w), 255 times the probability; from 128 on a pixel belongs to the mask, as in `Window`.
        y, x: row and column of the first pixel in the photo.
        number: tells it from all others.
    """

    alpha: NDArray[np.uint8]
    y: int
    x: int
    number: int = field(default_factory=lambda: next(_numbers))

    @classmethod
    def of(cls, window: Window) -> Matte:
        """From a window's probabilities, cropped to what is not zero."""
        # The float32 next to 1/2 becomes 128, 1/2 itself 127: the mask stays the same to the pixel.
        alpha = np.ceil(window.probabilities * np.float32(255) - np.float32(0.5)).astype(np.uint8)
        rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
        if not len(rows):
            return cls(np.zeros((0, 0), np.uint8), window.y, window.x)
        y0, x0 = int(rows[0]), int(columns[0])
        part = alpha[y0 : rows[-1] + 1, x0 : columns[-1] + 1].copy()
        return cls(part, window.y + y0, window.x + x0)

    @property
    def empty(self) -> bool:
        """Whether no pixel belongs to the mask."""
        return not (self.alpha > 127).any()

    def window(self) -> Window:
        """The probabilities, whose mask is that of the matte."""
        return Window(self.alpha.astype(np.float32) / np.float32(255), self.y, self.x)

    def sketch(self, shrink: float) -> tuple[bytes, tuple[int, int, int, int]]:
        """A small PNG file (8-bit grey) for the page, and the pixels x, y, width, height of the photo that it covers.

        Args:
            shrink: pixels of the photo for one of the picture that the page shows, at least 1.
        """
        height, width = self.alpha.shape
        if not height:
            return b"", (self.x, self.y, 0, 0)
        picture = Image.fromarray(self.alpha)
        if shrink > 1:
            size = (math.ceil(width / shrink), math.ceil(height / shrink))
            picture = picture.resize(size, Image.Resampling.BOX)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), (self.x, self.y, width, height)
