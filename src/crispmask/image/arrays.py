"""Arrays that callers pass as images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.arguments import as_array
from crispmask.errors import ShapeError, ValueRangeError


def as_image(array: ArrayLike) -> NDArray[np.uint8]:
    """An array that a caller passes as an image, checked.

    Args:
        array: uint8 (H, W, 3), RGB; grey (H, W) or (H, W, 1) is repeated into three channels. An RGB or grey
            `PIL.Image` is an array too.

    Returns:
        uint8 (H, W, 3), C-contiguous; the same memory where nothing had to change.

    Raises:
        ShapeError: another shape.
        ValueRangeError: another type than uint8.
    """
    image = as_array(array, "the image")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 3 and image.shape[2] == 4:
        raise ShapeError(f"the image has 4 channels {image.shape}: pass RGB without alpha, image[:, :, :3]")
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] != 3:
        raise ShapeError(f"the image has its channels first {image.shape}: pass (H, W, 3), image.transpose(1, 2, 0)")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ShapeError(f"an image must have shape (H, W, 3), RGB, got {image.shape}")
    if image.size == 0:
        raise ShapeError(f"the image has no pixels: shape {image.shape}")
    if image.dtype != np.uint8:
        raise ValueRangeError(
            f"an image must be uint8 with values 0..255, got {image.dtype}: convert it first, for example "
            "(255 * image).round().astype(numpy.uint8) for values in [0, 1]"
        )
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    return np.ascontiguousarray(image)
