"""Results of Matterport's Mask R-CNN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crispmask.errors import ShapeError
from crispmask.instances import Instances
from crispmask.integrations._common import Categories, as_array, instances_of, no_masks


def from_matterport(
    result: Mapping[str, Any], image_size: tuple[int, int] | None = None, *, categories: Categories | None = None
) -> Instances:
    """Instances from one result of Matterport's Mask R-CNN, the detector of the paper.

    Args:
        result: mapping with ``rois`` (N, 4) as y1, x1, y2, x2, ``class_ids`` (N,), ``scores`` (N,), and ``masks``
            bool (H, W, N).
        image_size: (H, W) in pixels; needed only for a result without objects, whose masks have the network's size.
        categories: from its class ids, counted from 1, to category ids; by default they are taken as they are.

    Raises:
        DataError: no masks in the result, or a class id that `categories` lacks.
        ShapeError: arrays that do not fit one another or the image.
    """
    if result.get("masks") is None:
        raise no_masks("the Matterport result")
    rois, masks = as_array(result["rois"]), as_array(result["masks"])
    if len(rois) == 0 and image_size is not None:
        return Instances.empty(image_size)
    if masks.ndim != 3:
        raise ShapeError(f"Matterport's masks must have shape (H, W, N), got {masks.shape}")
    boxes = rois.reshape(-1, 4)[:, [1, 0, 3, 2]]
    return instances_of(
        masks.transpose(2, 0, 1), image_size, boxes, result.get("scores"), result.get("class_ids"), categories
    )
