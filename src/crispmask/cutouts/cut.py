"""Objects of an image as pictures with an alpha channel."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.cutouts.alpha import RADIUS, SoftEdge, cell_of
from crispmask.cutouts.foreground import estimate_colours, foreground_of
from crispmask.image import as_image, read_image
from crispmask.image.scaling import Enlarged, resized
from crispmask.instances import MASK_THRESHOLD, Instances, Window, tight_box
from crispmask.refinement.inputs import as_instances, check_size

_TILE = 128
"""Side of the squares that are worked on at a time, pixels; those far from the edge only copy the image."""


def cutout(
    image: str | Path | ArrayLike, masks: Any, *, crop: bool = True, together: bool = False
) -> list[NDArray[np.uint8]]:
    """Cut objects out of an image: soft edges, and no halo of the old background.

    Along the edge of each mask, the opacity follows the image's own edge (guided filter), or the mask where the image
    shows none. The colours are those of the object alone: what the background has added to a mixed pixel is taken away.
    Refine the masks first; of `Instances` that `refine` or `segment` gave, the CRF's marginals are used.

    Args:
        image: uint8 (H, W, 3) RGB, or an image file.
        masks: `Instances`; or bool masks or probabilities in [0, 1], (N, H, W) or (H, W); or `supervision.Detections`.
        crop: whether each picture is cut to its object; else it has the image's size.
        together: one picture of all objects, in place of one for each.

    Returns:
        Pictures in the masks' order, each uint8 (h, w, 4): red, green, blue, and alpha, which the colours are not
        multiplied by. Where alpha is 0, so are the colours. Cropped, an object without pixels has one, which is
        transparent. ``PIL.Image.fromarray(picture).save("object.png")`` writes one.

    Raises:
        ImageError: a file that cannot be read.
        ShapeError: masks of another size than the image, or an array that is no mask or no image.
        ValueRangeError: probabilities outside [0, 1].
        DataError: detections without masks.
    """
    photo = read_image(image) if isinstance(image, str | Path) else as_image(image)
    instances = as_instances(masks, (photo.shape[0], photo.shape[1]))
    check_size(photo, instances)
    windows = [_all_of(instances)] if together else instances.windows
    return [_cut(photo, window, crop) for window in windows]


def _all_of(instances: Instances) -> Window:
    """One window for all instances: of each pixel the highest probability."""
    if not len(instances):
        return Window(np.zeros((0, 0), np.float32), 0, 0)
    y0, x0 = min(w.y for w in instances.windows), min(w.x for w in instances.windows)
    y1, x1 = max(w.y + w.height for w in instances.windows), max(w.x + w.width for w in instances.windows)
    highest = np.zeros((y1 - y0, x1 - x0), np.float32)
    for window in instances.windows:
        part = highest[window.y - y0 : window.y - y0 + window.height, window.x - x0 : window.x - x0 + window.width]
        np.maximum(part, window.probabilities, out=part)
    return Window(highest, y0, x0)


def _cut(image: NDArray[np.uint8], window: Window, crop: bool) -> NDArray[np.uint8]:
    """One object, RGBA."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = window.mask_box
    if x0 == x1:
        return np.zeros((1, 1, 4) if crop else (height, width, 4), np.uint8)
    cell = cell_of(math.sqrt((x1 - x0) * (y1 - y0)))
    margin = math.ceil(3 * RADIUS * cell)
    rect = max(0, y0 - margin), max(0, x0 - margin), min(height, y1 + margin), min(width, x1 + margin)
    picture = _picture(image[rect[0] : rect[2], rect[1] : rect[3]], window.over(rect), cell)
    if not crop:
        full = np.zeros((height, width, 4), np.uint8)
        full[rect[0] : rect[2], rect[1] : rect[3]] = picture
        return full
    left, top, right, bottom = (int(v) for v in tight_box(picture[:, :, 3] > 0))
    return picture[top:bottom, left:right].copy() if right > left else np.zeros((1, 1, 4), np.uint8)


def _picture(image: NDArray[np.uint8], probabilities: NDArray[np.float32], cell: float) -> NDArray[np.uint8]:
    """RGBA of a part of the image; what is computed on a grid has cells of `cell` pixels."""
    height, width = probabilities.shape
    grid = max(1, round(height / cell)), max(1, round(width / cell))
    small = resized(image, grid)
    edge = SoftEdge(small, resized(probabilities, grid), (height, width))
    foreground, background = (Enlarged(colours, (height, width)) for colours in estimate_colours(small, edge.alpha))
    mask = probabilities > MASK_THRESHOLD
    picture = np.zeros((height, width, 4), np.uint8)
    for top, left in product(range(0, height, _TILE), range(0, width, _TILE)):
        here = slice(top, min(top + _TILE, height)), slice(left, min(left + _TILE, width))
        tile = picture[here]
        alpha = edge.part(image, mask, *here)
        if alpha is not None:
            own = foreground_of(image[here], alpha, foreground.part(*here), background.part(*here))
            tile[:, :, 3] = np.rint(255 * alpha)
            opaque = tile[:, :, 3] == 255
            np.copyto(tile[:, :, :3], np.where(opaque[:, :, None], image[here], own), where=tile[:, :, 3:] > 0)
        elif mask[here].any():
            tile[:, :, :3] = image[here]
            tile[:, :, 3] = 255
    return picture
