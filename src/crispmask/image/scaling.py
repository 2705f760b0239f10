"""Images and maps at another size, strip by strip, so that a large one is never copied as a whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STRIP = 1 << 22  # pixels that are worked on at a time


def resized(values: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """An image or map at another size, bilinearly, smoothed where it shrinks; itself at its own size.

    Args:
        values: uint8 or float32 (H, W), or uint8 (H, W, 3).
        shape: rows and columns of the result.
    """
    from PIL import Image

    height, width = values.shape[:2]
    if (height, width) == shape:
        return values
    made = np.empty((*shape, *values.shape[2:]), values.dtype)
    scale = height / shape[0]
    reach = math.ceil(max(scale, 1)) + 1  # rows beyond a strip that its own rows are made of
    rows = max(1, int(_STRIP / max(scale * width, shape[1])))
    for y in range(0, shape[0], rows):
        bottom = min(y + rows, shape[0])
        first, last = max(0, math.floor(y * scale) - reach), min(height, math.ceil(bottom * scale) + reach)
        part = Image.fromarray(np.ascontiguousarray(values[first:last]))
        box = (0, max(0.0, y * scale - first), width, min(bottom * scale - first, last - first))
        made[y:bottom] = np.asarray(part.resize((shape[1], bottom - y), Image.Resampling.BILINEAR, box))
    return made


def reduced(values: NDArray[Any], factor: int) -> NDArray[Any]:
    """The means of blocks of `factor` x `factor` pixels; the last blocks may be smaller.

    Args:
        values: uint8 or float32 (H, W), or uint8 (H, W, 3).
        factor: at least 1.

    Returns:
        The same type, (ceil(H / factor), ceil(W / factor), ...).
    """
    from PIL import Image

    height, width = values.shape[:2]
    small = np.empty((-(-height // factor), -(-width // factor), *values.shape[2:]), values.dtype)
    rows = max(1, _STRIP // (width * factor))  # of the result
    for y in range(0, len(small), rows):
        strip = np.ascontiguousarray(values[y * factor : (y + rows) * factor])
        small[y : y + rows] = np.asarray(Image.fromarray(strip).reduce(factor))
    return small


class Enlarged:
    """Maps at a larger size, a part at a time.

    Args:
        values: float32 (h, w) or (h, w, C).
        shape: rows and columns of the larger size.
    """

    def __init__(self, values: NDArray[np.float32], shape: tuple[int, int]) -> None:
        from PIL import Image

        self.shape = (*shape, *values.shape[2:])
        flat = values.reshape(*values.shape[:2], -1)
        self._maps = [Image.fromarray(np.ascontiguousarray(flat[:, :, k])) for k in range(flat.shape[2])]

    def part(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """A rectangle of the larger maps, bilinearly: float32, with a last axis for C maps."""
        from PIL import Image

        shape = rows.stop - rows.start, columns.stop - columns.start
        made = np.empty((*shape, len(self._maps)), np.float32)
        for k, small in enumerate(self._maps):
            x, y = small.width / self.shape[1], small.height / self.shape[0]
            box = (columns.start * x, rows.start * y, columns.stop * x, rows.stop * y)
            made[:, :, k] = np.asarray(small.resize(shape[::-1], Image.Resampling.BILINEAR, box))
        return made.reshape(*shape, *self.shape[2:])
