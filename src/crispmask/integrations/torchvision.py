"""Results of torchvision's Mask R-CNN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crispmask.instances import Instances
from crispmask.integrations._common import Categories, as_array, instances_of, no_masks


def from_torchvision(
    result: Mapping[str, Any], image_size: tuple[int, int] | None = None, *, categories: Categories | None = None
) -> Instances:
    """Instances from one result of torchvision's Mask R-CNN.

    Args:
        result: mapping with ``boxes`` (N, 4) xyxy, ``labels`` (N,), ``scores`` (N,) and ``masks`` (N, 1, H, W)
            probabilities; targets of its data sets (no scores, masks (N, H, W)) are read too.
        image_size: (H, W) in pixels; by default that of the masks.
        categories: from labels to category ids; by default they are equal, as with its COCO weights.

    Raises:
        DataError: no masks in the result, or a label that `categories` lacks.
        ShapeError: arrays that do not fit one another or the image.
    """
    if result.get("masks") is None:
        raise no_masks("the torchvision result")
    masks = as_array(result["masks"])
    if masks.ndim == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]
    return instances_of(masks, image_size, result.get("boxes"), result.get("scores"), result.get("labels"), categories)
