"""Mask R-CNN's 28x28 probabilities, pasted into windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crispmask.instances import Window


def paste_window(mask: NDArray[np.float32], box: NDArray[np.float32], image_size: tuple[int, int]) -> Window:
    """Resample a mask of probabilities over its box, bilinearly, at the centres of the image's pixels.

    The grid's cell (r, c) of an MxM mask is centred at ((c + 0.5) / M, (r + 0.5) / M) of the box; outside the grid the
    probability falls linearly to zero over one cell, so that the box does not cut the object off (He et al., Mask
    R-CNN, ICCV 2017; aligned as in Detectron2's `paste_masks_in_image`).

    Args:
        mask: float32 (M, M) in [0, 1].
        box: (4,) xyxy in pixels.
        image_size: (H, W).

    Returns:
        The window of all pixels of the image whose probability can be above zero.
    """
    size = mask.shape[0]
    rows, weights_y = _axis(float(box[1]), float(box[3]), size, image_size[0])
    columns, weights_x = _axis(float(box[0]), float(box[2]), size, image_size[1])
    # Bilinear interpolation as two matrix products: faster than four look-ups per pixel.
    probabilities = weights_y @ mask.astype(np.float32, copy=False) @ weights_x.T
    return Window(np.clip(probabilities, 0.0, 1.0), rows, columns)


def _axis(low: float, high: float, size: int, limit: int) -> tuple[int, NDArray[np.float32]]:
    """First pixel along one axis, and the float32 (pixels, size) matrix of linear interpolation weights."""
    length = max(high - low, 1e-3)
    cell = length / size
    first = int(np.clip(np.floor(low - cell / 2), 0, limit))
    last = int(np.clip(np.ceil(high + cell / 2), first, limit))
    position = (np.arange(first, last) + 0.5 - low) / cell - 0.5
    weights = 1 - np.abs(position[:, None] - np.arange(size)[None, :])
    return first, np.maximum(weights, 0).astype(np.float32)
