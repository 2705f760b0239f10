"""What the conversions share: arrays from tensors, category ids from class indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.errors import DataError, ShapeError
from crispmask.instances import Instances

Categories = Mapping[int, int] | Sequence[int]
"""From a model's class index to the data set's category id."""

COCO_CATEGORY_IDS = (
    *range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91)
)  # fmt: skip
"""COCO's 80 category ids in order, for models that count classes from 0 (Ultralytics, Detectron2)."""


def instances_of(
    masks: NDArray,
    image_size: tuple[int, int] | None,
    boxes: Any,
    scores: Any,
    classes: Any,
    categories: Categories | None,
) -> Instances:
    """Instances from arrays or tensors; masks (N, H, W), boxes (N, 4) xyxy, scores (N,), classes (N,)."""
    if masks.ndim != 3:
        raise ShapeError(f"masks must have shape (N, H, W), got {masks.shape}")
    if image_size is not None:
        check_size(masks, image_size)
    return Instances.from_masks(
        masks,
        boxes=None if boxes is None else as_array(boxes),
        scores=None if scores is None else as_array(scores),
        category_ids=None if classes is None else category_ids_of(as_array(classes), categories),
    )


def as_array(value: Any) -> NDArray:
    """A tensor on any device, or anything array-like, as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # Results of mixed precision can be bfloat16, which NumPy does not have.
        value = value.float() if "bfloat16" in str(value.dtype) else value
    return np.asarray(value)


def category_ids_of(classes: NDArray, categories: Categories | None) -> NDArray[np.int64]:
    """Category ids int64 (N,) of a model's classes; DataError for one that `categories` lacks."""
    numbers = np.asarray(classes).astype(np.int64)
    if categories is None:
        return numbers
    table = dict(categories) if isinstance(categories, Mapping) else dict(enumerate(categories))
    for number in numbers.tolist():
        if number not in table:
            raise DataError(f"class {number} has no category id: `categories` knows {sorted(table)}")
    return np.array([table[number] for number in numbers.tolist()], np.int64)


def check_size(masks: NDArray, image_size: tuple[int, int]) -> None:
    """ShapeError unless the masks (N, H, W) have the image's size (H, W)."""
    if tuple(masks.shape[-2:]) != tuple(int(side) for side in image_size):
        raise ShapeError(
            f"the masks are {masks.shape[-2]}x{masks.shape[-1]} pixels and the image is "
            f"{image_size[0]}x{image_size[1]} (height x width): paste or resize the masks to the image first"
        )


def no_masks(what: str) -> DataError:
    """The error for a result without masks."""
    return DataError(f"{what} has no masks: use a segmentation model; boxes alone cannot be refined")
