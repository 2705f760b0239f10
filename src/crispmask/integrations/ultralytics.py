"""Results of Ultralytics segmentation models."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.coco.rle import segmentation_to_mask
from crispmask.errors import ShapeError
from crispmask.instances import MASK_THRESHOLD, Instances
from crispmask.integrations._common import Categories, as_array, instances_of, no_masks
from crispmask.refinement import Params, refine


def from_ultralytics(result: Any, *, categories: Categories | None = None) -> Instances:
    """Instances from one Ultralytics result (YOLO segmentation and its relatives).

    Its masks have the size of the network's input: the image scaled to fit and padded on both sides ("letterbox"),
    unless ``retina_masks=True`` was set. As in Ultralytics, the padding is cut off and the rest is resized bilinearly.

    Args:
        result: with ``orig_shape`` (H, W), ``boxes.xyxy``, ``boxes.conf``, ``boxes.cls``, and ``masks.data`` (N, h, w)
            or, where that is None, ``masks.xy``: one polygon (K, 2) in image pixels per instance.
        categories: from its classes, counted from 0, to category ids, for example `COCO_CATEGORY_IDS`; by default
            they are taken as they are.

    Raises:
        DataError: no masks in the result, or a class that `categories` lacks.
        ShapeError: arrays that do not fit one another.
    """
    height, width = (int(side) for side in result.orig_shape)
    boxes = result.boxes
    count = 0 if boxes is None else len(as_array(boxes.conf))
    if result.masks is None:
        # No masks: either nothing was detected, or (if there are boxes) it is no segmentation model.
        if count == 0:
            return Instances.empty((height, width))
        raise no_masks("the Ultralytics result")
    data = getattr(result.masks, "data", None)
    if data is not None:
        masks = _from_letterbox(as_array(data), height, width)
    else:
        masks = np.zeros((len(result.masks.xy), height, width), np.bool_)
        for mask, polygon in zip(masks, result.masks.xy, strict=True):
            points = as_array(polygon)
            if len(points) >= 3:  # fewer enclose no pixel
                mask[:] = segmentation_to_mask([points.astype(float).ravel().tolist()], height, width)
    return instances_of(masks, (height, width), boxes.xyxy, boxes.conf, boxes.cls, categories)


def to_ultralytics(instances: Instances, result: Any) -> Any:
    """An Ultralytics result with other masks; its boxes, classes, scores, image and names stay.

    Args:
        instances: as many as the result has boxes, in their order.
        result: an Ultralytics ``Results``; it is not changed.

    Returns:
        A ``Results`` whose masks have the size of the image, in the number type and on the device of the old ones: with
        it ``.plot()``, ``.save_txt()``, ``.to_json()`` and the others work as before.

    Raises:
        ShapeError: another number of instances, or another image size.
    """
    count = 0 if result.boxes is None else len(result.boxes)
    size = tuple(int(side) for side in result.orig_shape)
    if len(instances) != count or instances.image_size != size:
        raise ShapeError(
            f"the result has {count} objects in an image of {size[0]}x{size[1]} pixels (height x width), the instances "
            f"are {len(instances)} in {instances.image_size[0]}x{instances.image_size[1]}"
        )
    made = copy(result)
    if result.masks is not None:
        masks, old = instances.masks(), result.masks.data
        made.update(masks=old.new_tensor(masks) if hasattr(old, "new_tensor") else masks.astype(old.dtype))
    return made


def refine_ultralytics(result: Any, params: Params | None = None, **options: Any) -> Any:
    """Refine what an Ultralytics model found: ``Results`` in, ``Results`` out.

    Args:
        result: an Ultralytics ``Results``, which holds its image, or the list of them that a model returns.
        params, options: as for `crispmask.refine`.

    Returns:
        A new ``Results``, or a list of them.

    Raises:
        DataError: a result without masks.
        ShapeError, ValueRangeError, ParamsError: as `crispmask.refine`.
    """
    if isinstance(result, list | tuple):
        return [refine_ultralytics(one, params, **options) for one in result]
    image = np.ascontiguousarray(result.orig_img[:, :, ::-1])  # it is BGR
    return to_ultralytics(refine(image, from_ultralytics(result), params, **options), result)


def _from_letterbox(masks: NDArray, height: int, width: int) -> NDArray:
    """Masks (N, h, w) at a network's size to (N, H, W) of the image; unchanged where that is the same size."""
    if masks.ndim != 3:
        raise ShapeError(f"Ultralytics' masks must have shape (N, h, w), got {masks.shape}")
    if masks.shape[1:] == (height, width):
        return masks
    from PIL import Image

    top, left, h, w = _letterbox(masks.shape[1], masks.shape[2], height, width)
    inner = masks[:, top : top + h, left : left + w]
    binary = masks.dtype == np.bool_ or bool(np.isin(masks, (0, 1)).all())
    full: NDArray = np.zeros((len(masks), height, width), np.bool_ if binary else np.float32)
    for target, mask in zip(full, inner, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(mask, dtype=np.float32))
        resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        # Rounding in the resize may leave [0, 1] by an ulp.
        target[:] = resized > MASK_THRESHOLD if binary else np.clip(resized, 0, 1)
    return full


def _letterbox(h: int, w: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Where the image lies in the network's input (h, w): top, left, height, width, rounded as in LetterBox."""
    # The side that limits the scale is exact and the other one rounded, so the larger ratio that fits is the right one.
    for gain in sorted((h / height, w / width), reverse=True):
        inner_h, inner_w = round(height * gain), round(width * gain)
        if inner_h <= h and inner_w <= w:
            break
    return round((h - inner_h) / 2 - 0.1), round((w - inner_w) / 2 - 0.1), inner_h, inner_w
