"""Results of MMDetection 3."""

from __future__ import annotations

from typing import Any

from crispmask.instances import Instances
from crispmask.integrations._common import Categories, as_array, instances_of, no_masks


def from_mmdetection(result: Any, *, categories: Categories | None = None) -> Instances:
    """Instances from an MMDetection 3 result.

    Args:
        result: a ``DetDataSample``, or its ``pred_instances``, with ``bboxes`` (N, 4) xyxy, ``scores`` (N,), ``labels``
            (N,) and ``masks`` bool (N, H, W) at the size of the image.
        categories: from its labels, counted from 0, to category ids, for example `COCO_CATEGORY_IDS`; by default they
            are taken as they are.

    Raises:
        DataError: no masks in the result, or a label that `categories` lacks.
        ShapeError: arrays that do not fit one another.
    """
    found = getattr(result, "pred_instances", result)
    if getattr(found, "masks", None) is None:
        raise no_masks("the MMDetection result")
    return instances_of(as_array(found.masks), None, found.bboxes, found.scores, found.labels, categories)
