"""Instances at a fraction of their image's size, so that pictures of large images take little memory."""

from __future__ import annotations

import numpy as np

from crispmask.instances import Instances, Window


def reduce_instances(instances: Instances, factor: int) -> Instances:
    """The same objects on the image that `reduced` makes: a block is in a mask where more than half of it is."""
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
