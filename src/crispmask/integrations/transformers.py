"""Results of Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.errors import DataError, ShapeError
from crispmask.instances import Instances
from crispmask.integrations._common import Categories, as_array, check_size, instances_of


def from_transformers(
    result: Any,
    image_size: tuple[int, int] | None = None,
    *,
    iou_scores: Any = None,
    categories: Categories | None = None,
) -> Instances:
    """Instances from what the processors of transformers return for one image.

    Args:
        result: an element of the list that ``post_process_instance_segmentation`` or
            ``post_process_panoptic_segmentation`` returns (Mask2Former, MaskFormer, OneFormer, DETR and others): a
            mapping with ``segmentation``, ids (H, W) or with ``return_binary_maps`` masks (N, H, W), and
            ``segments_info`` with ``id``, ``label_id`` and ``score``. Or an element of the list that
            ``post_process_masks`` returns (SAM, SAM 2): bool (P, M, H, W), M masks for each of P prompts.
        image_size: (H, W) in pixels; needed only where nothing was found and ``segmentation`` is None.
        iou_scores: of SAM, (P, M) or (1, P, M): the mask with the highest is taken for each prompt. They are no
            scores of detections: the masks' are 1, so that refinement leaves alone what would not gain.
        categories: from label ids to category ids; by default they are taken as they are. SAM's masks have category 1.

    Raises:
        DataError: run lengths in place of maps, a label that `categories` lacks, or no ``segmentation`` and no size.
        ShapeError: masks of another size than the image, or scores that do not fit; give ``target_sizes`` to the
            processor.
    """
    if isinstance(result, Mapping):
        return _of_segments(result, image_size, categories)
    masks = as_array(result)
    if masks.ndim != 4:
        raise ShapeError(f"SAM's masks must have shape (P, M, H, W), got {masks.shape}: pass those of one image")
    return instances_of(_best(masks, iou_scores), image_size, None, None, None, None)


def _of_segments(
    result: Mapping[str, Any], image_size: tuple[int, int] | None, categories: Categories | None
) -> Instances:
    found, segments = result.get("segmentation"), result.get("segments_info")
    if segments is None:
        raise DataError(
            "the transformers result has no segments_info: use post_process_instance_segmentation or "
            "post_process_panoptic_segmentation"
        )
    if isinstance(found, list):
        raise DataError("the transformers result holds run lengths: leave out return_coco_annotation")
    if found is None or not len(segments):
        size = image_size if found is None else as_array(found).shape[-2:]
        if size is None:
            raise DataError("nothing was found, and the result does not say the image's size: give image_size=(H, W)")
        return Instances.empty((int(size[0]), int(size[1])))
    maps = as_array(found)
    if maps.ndim == 3:  # binary maps
        masks = maps > 0
    else:
        segments = list({segment["id"]: segment for segment in reversed(segments)}.values())[
            ::-1
        ]  # fused ones share it
        masks = np.stack([maps == segment["id"] for segment in segments])
    if image_size is not None:
        check_size(masks, image_size)
    scores = np.array([segment.get("score", 1.0) for segment in segments], np.float32)
    labels = np.array([segment["label_id"] for segment in segments], np.int64)
    return instances_of(masks, image_size, None, scores, labels, categories)


def _best(masks: NDArray, iou_scores: Any) -> NDArray:
    """Of each prompt the mask with the highest score: (P, H, W) of (P, M, H, W)."""
    if masks.shape[1] == 1 and iou_scores is None:
        return masks[:, 0]
    if iou_scores is None:
        raise DataError(f"there are {masks.shape[1]} masks for each prompt: give iou_scores, which say the best one")
    scores = as_array(iou_scores)
    scores = scores[0] if scores.ndim == 3 and len(scores) == 1 else scores
    if scores.shape != masks.shape[:2]:
        raise ShapeError(f"iou_scores must have shape {masks.shape[:2]} as the masks, got {scores.shape}")
    best: NDArray = masks[np.arange(len(masks)), scores.argmax(1)]
    return best
