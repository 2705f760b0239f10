"""An image as the padded canvas that a network takes, and the network's arrays as `Instances` of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.detectors.paste import paste_window
from crispmask.instances import Instances

PADDING = 127  # grey level of the padding in training

Network = Callable[[NDArray[np.float32]], Sequence[NDArray]]
"""Canvas (1, 3, h, w) float32 RGB in 0..255 to boxes (N, 4), scores (N,), labels (N,) from 1 and masks (N, M, M)."""


def detect(
    image: NDArray[np.uint8], network: Network, ids: NDArray[np.int64], min_size: int, max_size: int, divisor: int
) -> Instances:
    """Run a network on an image.

    Args:
        image: uint8 (H, W, 3) RGB.
        network: see `Network`.
        ids: int64, category id by label; entry 0 is not used.
        min_size, max_size, divisor: see `network_input`.
    """
    height, width = image.shape[:2]
    canvas, (size_h, size_w) = network_input(image, min_size, max_size, divisor)
    boxes, scores, labels, masks = network(canvas)
    boxes = boxes * np.array([width / size_w, height / size_h] * 2, np.float32)
    return to_instances(boxes, scores, ids[labels], masks, (height, width))


def to_instances(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    category_ids: NDArray[np.int64],
    masks: NDArray[np.float32],
    image_size: tuple[int, int],
) -> Instances:
    """A network's detections as instances; boxes are clipped to the image, and those outside of it are dropped.

    Args:
        boxes: float32 (N, 4), xyxy in pixels of the image.
        scores: float32 (N,).
        category_ids: int64 (N,).
        masks: float32 (N, M, M), probabilities on a grid over each box.
        image_size: (H, W).
    """
    height, width = image_size
    windows = tuple(paste_window(m, b, image_size) for m, b in zip(masks, boxes, strict=True))
    clipped = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
    keep = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    found = Instances(image_size, clipped, np.clip(scores, 0, 1), category_ids, windows)
    return found[keep] if not keep.all() else found


def network_input(
    image: NDArray[np.uint8], min_size: int, max_size: int, divisor: int
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Scale an image and pad it so that both sides are multiples of `divisor`.

    Args:
        image: uint8 (H, W, 3) RGB.
        min_size, max_size: pixels of the shorter side, and the most of the longer one.
        divisor: the network's largest stride.

    Returns:
        float32 (1, 3, h', w') in 0..255, and the size (h, w) of the scaled image in its upper left corner.
    """
    height, width = image.shape[:2]
    scale = min(min_size / min(height, width), max_size / max(height, width))
    size_h, size_w = max(1, round(height * scale)), max(1, round(width * scale))
    resized = np.asarray(Image.fromarray(image).resize((size_w, size_h), Image.Resampling.BILINEAR))
    sides = (-(-size_h // divisor) * divisor, -(-size_w // divisor) * divisor)
    padded = np.full((1, 3, *sides), PADDING, np.float32)
    padded[0, :, :size_h, :size_w] = resized.transpose(2, 0, 1)
    return padded, (size_h, size_w)
