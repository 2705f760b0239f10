"""Results of Detectron2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crispmask.instances import Instances
from crispmask.integrations._common import Categories, as_array, instances_of, no_masks


def from_detectron2(result: Any, *, categories: Categories | None = None) -> Instances:
    """Instances from a Detectron2 predictor's output.

    Args:
        result: ``{"instances": Instances}`` or the inner object, with ``image_size``, ``pred_boxes.tensor`` (N, 4)
            xyxy, ``scores`` (N,), ``pred_classes`` (N,) and ``pred_masks`` bool (N, H, W), as after its own
            post-processing.
        categories: from its classes, counted from 0, to category ids, for example `COCO_CATEGORY_IDS`; by default
            they are taken as they are.

    Raises:
        DataError: no masks in the result, or a class that `categories` lacks.
        ShapeError: arrays that do not fit one another or the image.
    """
    found = result["instances"] if isinstance(result, Mapping) else result
    if getattr(found, "pred_masks", None) is None:
        raise no_masks("the Detectron2 result")
    boxes = getattr(found.pred_boxes, "tensor", found.pred_boxes)
    masks = as_array(getattr(found.pred_masks, "tensor", found.pred_masks))
    return instances_of(masks, found.image_size, boxes, found.scores, found.pred_classes, categories)
