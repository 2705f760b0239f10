"""`supervision.Detections` in and out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from crispmask.errors import MissingExtraError
from crispmask.instances import Instances
from crispmask.integrations._common import Categories, category_ids_of
from crispmask.refinement.inputs import from_detections


def to_supervision(instances: Instances) -> Any:
    """`supervision.Detections`, for its trackers, annotators and tools.

    Returns:
        Detections with ``xyxy`` float32 (N, 4), ``mask`` bool (N, H, W), ``confidence`` float32 (N,) and ``class_id``
        int (N,): the category ids. Probabilities do not fit into them: masks are those above 0.5.

    Raises:
        MissingExtraError: supervision is not installed.
    """
    try:
        from supervision import Detections
    except ImportError:
        raise MissingExtraError("supervision", "supervision") from None
    return Detections(
        xyxy=instances.boxes.copy(),
        mask=instances.masks(),
        confidence=instances.scores.copy(),
        class_id=instances.category_ids.astype(int),
    )


def from_supervision(
    detections: Any, image_size: tuple[int, int], *, categories: Categories | None = None
) -> Instances:
    """Instances from `supervision.Detections`.

    Args:
        detections: with masks, dense or compact; ``confidence`` (default 1) and ``class_id`` (default 1) may be None.
        image_size: (H, W) in pixels; an empty set of detections does not know it.
        categories: from class ids to category ids; by default they are taken as they are.

    Raises:
        DataError: detections without masks, or a class id that `categories` lacks.
        ShapeError: masks of another size than the image.
    """
    found = from_detections(detections, image_size)
    return replace(found, category_ids=category_ids_of(found.category_ids, categories))
