"""Images and their instances at a fraction of their size, so that pictures of large images take little memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.instances import Instances, Window

_STRIP = 1 << 22  # pixels that are copied at a time


def reduce_image(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """The means of blocks of `factor` x `factor` pixels: uint8 (ceil(H / factor), ceil(W / factor), 3).

    The last blocks may be smaller.
    """
    height, width = image.shape[:2]
    small = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    rows = max(1, _STRIP // (width * factor))  # of the small image
    for y in range(0, len(small), rows):
        strip = np.ascontiguousarray(image[y * factor : (y + rows) * factor])
        small[y : y + rows] = np.asarray(Image.fromarray(strip).reduce(factor))
    return small


def reduce_instances(instances: Instances, factor: int) -> Instances:
    """The same objects on the image of `reduce_image`: a block is in a mask where more than half of it is."""
    height, width = instances.image_size
    windows = []
    for window in instances.windows:
        y0, x0 = window.y // factor, window.x // factor
        y1, x1 = -(-(window.y + window.height) // factor), -(-(window.x + window.width) // factor)
        mask = np.zeros(((y1 - y0) * factor, (x1 - x0) * factor), np.bool_)
        top, left = window.y - y0 * factor, window.x - x0 * factor
        mask[top : top + window.height, left : left + window.width] = window.mask
        blocks = mask.reshape(y1 - y0, factor, x1 - x0, factor)
        windows.append(Window(blocks.mean(axis=(1, 3), dtype=np.float32), y0, x0))
    size = -(-height // factor), -(-width // factor)
    return Instances(
        size, instances.boxes / np.float32(factor), instances.scores, instances.category_ids, tuple(windows)
    )
