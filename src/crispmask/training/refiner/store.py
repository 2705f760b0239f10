"""Objects cut out of photos, small and of one size, as the unary network is trained on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.instances import Window

SIDE = 160
"""Pixels of a stored crop, along both sides."""

_REACH = 0.5  # of the box's sides, and so many pixels: the crop around the box, from which samples are cut
_REACH_MIN = 14


@dataclass(frozen=True)
class Crop:
    """An object and its surroundings.

    Attributes:
        image: uint8 (SIDE, SIDE, 3) RGB.
        truth: uint8 (SIDE, SIDE), the annotated object's coverage times 255.
        mask: the same for the mask to refine; None where it is made from the truth.
        soft: whether the mask comes with probabilities.
        box: float (4,), xyxy in pixels of the photo: the mask's.
        rect: float (4,), the crop, likewise.
        image_size: (H, W) of the photo.
        group: number of the photo.
        weight: how often it is drawn, relative to the others.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    soft: bool
    box: NDArray[np.float32]
    rect: NDArray[np.float32]
    image_size: tuple[int, int]
    group: int
    weight: float = 1.0


def cut(
    image: NDArray[np.uint8],
    truth: Window,
    box: NDArray[np.float32],
    group: int,
    mask: Window | None = None,
    *,
    soft: bool = False,
    weight: float = 1.0,
) -> Crop:
    """The crop of an object: its annotated `truth`, and the `mask` to refine with its `box`."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (float(v) for v in box)
    reach_x = _REACH * (x1 - x0) + _REACH_MIN
    reach_y = _REACH * (y1 - y0) + _REACH_MIN
    left, top = max(0, int(x0 - reach_x)), max(0, int(y0 - reach_y))
    right, bottom = min(width, int(np.ceil(x1 + reach_x))), min(height, int(np.ceil(y1 + reach_y)))
    region = left, top, right, bottom
    small = Image.fromarray(image[top:bottom, left:right]).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return Crop(
        np.asarray(small),
        _resized(truth, region),
        None if mask is None else _resized(mask, region),
        soft,
        np.asarray(box, np.float32),
        np.array(region, np.float32),
        (height, width),
        group,
        weight,
    )


def _resized(window: Window, region: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    part = paste(window, region)
    small = Image.fromarray(part).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(small) * 255 + 0.5, 0, 255).astype(np.uint8)


def paste(window: Window, region: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """A window's probabilities over a region (x0, y0, x1, y1) in pixels; zero outside the window."""
    x0, y0, x1, y1 = region
    part = np.zeros((y1 - y0, x1 - x0), np.float32)
    top, left = max(y0, window.y), max(x0, window.x)
    bottom, right = min(y1, window.y + window.height), min(x1, window.x + window.width)
    if bottom > top and right > left:
        part[top - y0 : bottom - y0, left - x0 : right - x0] = window.probabilities[
            top - window.y : bottom - window.y, left - window.x : right - window.x
        ]
    return part
