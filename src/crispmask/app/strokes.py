"""Strokes of a brush, as the pixels that they cover."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crispmask.errors import ValueRangeError
from crispmask.refinement.windows import Rect, union


@dataclass(frozen=True)
class Stroke:
    """A line that a round brush drew.

    Attributes:
        points: x, y in pixels of the photo; one is a dot.
        radius: of the brush, in pixels.
    """

    points: tuple[tuple[float, float], ...]
    radius: float


@dataclass(frozen=True, eq=False)
class Paint:
    """What was painted on an object: these pixels are decided, whatever network and CRF say.

    Attributes:
        signs: int8 (h, w), 1 where the object was added, -1 where it was erased, 0 elsewhere.
        rect: where in the photo.
    """

    signs: NDArray[np.int8]
    rect: Rect

    def over(self, rect: Rect) -> NDArray[np.int8]:
        """The signs over a rectangle that contains this one: int8 (H, W)."""
        laid = np.zeros(rect.shape, np.int8)
        y, x, (height, width) = self.rect.y0 - rect.y0, self.rect.x0 - rect.x0, self.rect.shape
        laid[y : y + height, x : x + width] = self.signs
        return laid


def covered(strokes: Sequence[Stroke], size: tuple[int, int]) -> tuple[NDArray[np.bool_], Rect]:
    """The pixels under strokes, bool (h, w), and where they lie in a photo of (H, W) pixels.

    Raises:
        ValueRangeError: strokes that touch no pixel of the photo.
    """
    height, width = size
    points = [(x, y, stroke.radius) for stroke in strokes for x, y in stroke.points]
    rect = Rect(
        max(0, min((math.floor(y - r) for _, y, r in points), default=0)),
        max(0, min((math.floor(x - r) for x, _, r in points), default=0)),
        min(height, max((math.ceil(y + r) + 1 for _, y, r in points), default=0)),
        min(width, max((math.ceil(x + r) + 1 for x, _, r in points), default=0)),
    )
    if rect.y0 >= rect.y1 or rect.x0 >= rect.x1:
        raise ValueRangeError("the brush did not touch the photo")
    picture = Image.new("L", (rect.x1 - rect.x0, rect.y1 - rect.y0))
    pen = ImageDraw.Draw(picture)
    for stroke in strokes:
        r = max(stroke.radius, 0.5)
        # Pillow counts from the centre of a pixel, the page from its corner.
        line = [(x - rect.x0 - 0.5, y - rect.y0 - 0.5) for x, y in stroke.points]
        for x, y in line:
            pen.ellipse((x - r, y - r, x + r, y + r), fill=1)
        if len(line) > 1:
            pen.line(line, fill=1, width=max(1, round(2 * r)))
    return np.asarray(picture) > 0, rect


def painted(before: Paint | None, strokes: Sequence[Stroke], add: bool, size: tuple[int, int]) -> Paint:
    """The paint on an object after further strokes, which count where they cross earlier ones."""
    under, rect = covered(strokes, size)
    whole = rect if before is None else union([before.rect, rect])
    signs = np.zeros(whole.shape, np.int8) if before is None else before.over(whole)
    part = signs[rect.y0 - whole.y0 : rect.y1 - whole.y0, rect.x0 - whole.x0 : rect.x1 - whole.x0]
    part[under] = 1 if add else -1
    return Paint(signs, whole)
