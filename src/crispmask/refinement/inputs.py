"""The kinds of masks that `refine` takes, as `Instances`, and the way back."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.errors import DataError, ShapeError
from crispmask.instances import Instances


def is_detections(masks: object) -> bool:
    """Whether an object is a `supervision.Detections`, by its attributes: the package itself is not needed."""
    return hasattr(masks, "xyxy") and hasattr(masks, "mask")


def from_detections(detections: Any, image_size: tuple[int, int]) -> Instances:
    """Instances from `supervision.Detections` of an image of (H, W) pixels; class ids become category ids.

    Raises:
        DataError: detections without masks.
        ShapeError: masks of another size than the image.
    """
    if len(detections) == 0:
        return Instances.empty(image_size)
    if detections.mask is None:
        raise DataError("the detections have no masks: use a segmentation model; boxes alone cannot be refined")
    masks = np.asarray(detections.mask)
    if tuple(masks.shape[-2:]) != tuple(int(side) for side in image_size):
        raise ShapeError(
            f"the masks are {masks.shape[-2]}x{masks.shape[-1]} pixels and the image is "
            f"{image_size[0]}x{image_size[1]} (height x width): paste or resize the masks to the image first"
        )
    return Instances.from_masks(
        masks, boxes=detections.xyxy, scores=detections.confidence, category_ids=detections.class_id
    )


def as_instances(masks: Any, image_size: tuple[int, int]) -> Instances:
    """Instances from anything that `refine` takes.

    Args:
        masks: `Instances`, `supervision.Detections`, or an array (N, H, W) or (H, W) of booleans or probabilities.
        image_size: (H, W) in pixels.

    Raises:
        DataError, ShapeError, ValueRangeError: masks that cannot be used.
    """
    if isinstance(masks, Instances):
        return masks
    if is_detections(masks):
        return from_detections(masks, image_size)
    return Instances.from_masks(masks)


def like(original: Any, after: Instances) -> Any:
    """Refined instances in the form in which the masks came: same type, shape and order.

    Args:
        original: what `as_instances` was given; other fields of `supervision.Detections` are kept.
        after: the refined instances.
    """
    if isinstance(original, Instances):
        return after
    if is_detections(original):
        result = copy(original)
        result.mask = after.masks()
        return result
    array = np.asarray(original)
    if np.issubdtype(array.dtype, np.floating):
        full = np.stack([after.probability(i) for i in range(len(after))]) if len(after) else np.zeros_like(array)
    else:
        full = after.masks()
    return full.astype(array.dtype, copy=False).reshape(array.shape)


def check_size(image: NDArray[np.uint8], instances: Instances) -> None:
    """ShapeError unless the instances are of an image of this size."""
    if instances.image_size != image.shape[:2]:
        raise ShapeError(
            "the masks are for an image of {}x{} pixels (height x width), the image has {}x{}".format(
                *instances.image_size, *image.shape[:2]
            )
        )
