"""Instances from and to the results of other libraries.

Nothing here imports those libraries, save `to_supervision`, which makes one of their objects: the results are read by
their attributes, and torch tensors on any device become arrays. All masks survive unchanged; probabilities do where
the other side has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.coco.rle import segmentation_to_mask
from crispmask.errors import DataError, MissingExtraError, ShapeError
from crispmask.instances import MASK_THRESHOLD, Instances

Categories = Mapping[int, int] | Sequence[int]
"""From a model's class index to the data set's category id."""

COCO_CATEGORY_IDS = (
    *range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91)
)  # fmt: skip
"""COCO's 80 category ids in order, for models that count classes from 0 (Ultralytics, Detectron2)."""


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
        raise MissingExtraError("supervision", "all") from None
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
    if len(detections) == 0:
        return Instances.empty(image_size)
    if detections.mask is None:
        raise _no_masks("the detections")
    masks = np.asarray(detections.mask)
    _check_size(masks, image_size)
    return Instances.from_masks(
        masks,
        boxes=detections.xyxy,
        scores=detections.confidence,
        category_ids=None if detections.class_id is None else _ids(detections.class_id, categories),
    )


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
        raise _no_masks("the torchvision result")
    masks = _array(result["masks"])
    if masks.ndim == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]
    return _instances(masks, image_size, result.get("boxes"), result.get("scores"), result.get("labels"), categories)


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
        raise _no_masks("the Detectron2 result")
    boxes = getattr(found.pred_boxes, "tensor", found.pred_boxes)
    masks = _array(getattr(found.pred_masks, "tensor", found.pred_masks))
    return _instances(masks, found.image_size, boxes, found.scores, found.pred_classes, categories)


def from_mmdetection(result: Any, *, categories: Categories | None = None) -> Instances:
    """Instances from an MMDetection 3 result.

    Args:
        result: a ``DetDataSample``, or its ``pred_instances``, with ``bboxes`` (N, 4) xyxy, ``scores`` (N,), ``labels``
            (N,) and ``masks`` bool (N, H, W) at the size of the photo.
        categories: from its labels, counted from 0, to category ids, for example `COCO_CATEGORY_IDS`; by default they
            are taken as they are.

    Raises:
        DataError: no masks in the result, or a label that `categories` lacks.
        ShapeError: arrays that do not fit one another.
    """
    found = getattr(result, "pred_instances", result)
    if getattr(found, "masks", None) is None:
        raise _no_masks("the MMDetection result")
    return _instances(_array(found.masks), None, found.bboxes, found.scores, found.labels, categories)


def from_ultralytics(result: Any, *, categories: Categories | None = None) -> Instances:
    """Instances from one Ultralytics result (YOLO segmentation and its relatives).

    Its masks are at the network's size: the photo scaled to fit and padded on both sides ("letterbox"), unless it ran
    with ``retina_masks=True``. The padding is cut off and the rest resized bilinearly, here as there.

    Args:
        result: with ``orig_shape`` (H, W), ``boxes.xyxy``, ``boxes.conf``, ``boxes.cls``, and ``masks.data`` (N, h, w)
            or, where that is None, ``masks.xy``: one polygon (K, 2) in photo pixels per instance.
        categories: from its classes, counted from 0, to category ids, for example `COCO_CATEGORY_IDS`; by default
            they are taken as they are.

    Raises:
        DataError: no masks in the result, or a class that `categories` lacks.
        ShapeError: arrays that do not fit one another.
    """
    height, width = (int(side) for side in result.orig_shape)
    boxes = result.boxes
    count = 0 if boxes is None else len(_array(boxes.conf))
    if result.masks is None:
        # That is how it says that nothing was found; with boxes, the model was no segmentation model.
        if count == 0:
            return Instances.empty((height, width))
        raise _no_masks("the Ultralytics result")
    data = getattr(result.masks, "data", None)
    if data is not None:
        masks = _from_letterbox(_array(data), height, width)
    else:
        masks = np.zeros((len(result.masks.xy), height, width), np.bool_)
        for mask, polygon in zip(masks, result.masks.xy, strict=True):
            points = _array(polygon)
            if len(points) >= 3:  # fewer enclose no pixel
                mask[:] = segmentation_to_mask([points.astype(float).ravel().tolist()], height, width)
    return _instances(masks, (height, width), boxes.xyxy, boxes.conf, boxes.cls, categories)


def from_matterport(
    result: Mapping[str, Any], image_size: tuple[int, int] | None = None, *, categories: Categories | None = None
) -> Instances:
    """Instances from one result of Matterport's Mask R-CNN, the detector of the paper.

    Args:
        result: mapping with ``rois`` (N, 4) as y1, x1, y2, x2, ``class_ids`` (N,), ``scores`` (N,), and ``masks``
            bool (H, W, N).
        image_size: (H, W) in pixels; needed only where nothing was found, because it then writes masks of its own
            network's size.
        categories: from its class ids, counted from 1, to category ids; by default they are taken as they are.

    Raises:
        DataError: no masks in the result, or a class id that `categories` lacks.
        ShapeError: arrays that do not fit one another or the image.
    """
    if result.get("masks") is None:
        raise _no_masks("the Matterport result")
    rois, masks = _array(result["rois"]), _array(result["masks"])
    if len(rois) == 0 and image_size is not None:
        return Instances.empty(image_size)
    if masks.ndim != 3:
        raise ShapeError(f"Matterport's masks must have shape (H, W, N), got {masks.shape}")
    boxes = rois.reshape(-1, 4)[:, [1, 0, 3, 2]]
    return _instances(
        masks.transpose(2, 0, 1), image_size, boxes, result.get("scores"), result.get("class_ids"), categories
    )


def _instances(
    masks: NDArray,
    image_size: tuple[int, int] | None,
    boxes: Any,
    scores: Any,
    classes: Any,
    categories: Categories | None,
) -> Instances:
    if masks.ndim != 3:
        raise ShapeError(f"masks must have shape (N, H, W), got {masks.shape}")
    if image_size is not None:
        _check_size(masks, image_size)
    return Instances.from_masks(
        masks,
        boxes=None if boxes is None else _array(boxes),
        scores=None if scores is None else _array(scores),
        category_ids=None if classes is None else _ids(_array(classes), categories),
    )


def _array(value: Any) -> NDArray:
    """A tensor on any device, or anything array-like, as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # NumPy has no bfloat16, which mixed precision leaves behind.
        value = value.float() if "bfloat16" in str(value.dtype) else value
    return np.asarray(value)


def _ids(classes: NDArray, categories: Categories | None) -> NDArray[np.int64]:
    numbers = np.asarray(classes).astype(np.int64)
    if categories is None:
        return numbers
    table = dict(categories) if isinstance(categories, Mapping) else dict(enumerate(categories))
    for number in numbers.tolist():
        if number not in table:
            raise DataError(f"class {number} has no category id: `categories` knows {sorted(table)}")
    return np.array([table[number] for number in numbers.tolist()], np.int64)


def _check_size(masks: NDArray, image_size: tuple[int, int]) -> None:
    if tuple(masks.shape[-2:]) != tuple(int(side) for side in image_size):
        raise ShapeError(
            f"the masks are {masks.shape[-2]}x{masks.shape[-1]} pixels and the image is "
            f"{image_size[0]}x{image_size[1]} (height x width): paste or resize the masks to the image first"
        )


def _no_masks(what: str) -> DataError:
    return DataError(f"{what} has no masks: use a segmentation model; boxes alone cannot be refined")


def _from_letterbox(masks: NDArray, height: int, width: int) -> NDArray:
    """Masks (N, h, w) at a network's size to (N, H, W) of the photo; unchanged where that is the same size."""
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
    """Where the photo lies in the network's input (h, w): top, left, height, width, by LetterBox's own rounding."""
    # The side that limits the scale is exact, the other one was rounded, so the larger ratio that still fits is meant.
    for gain in sorted((h / height, w / width), reverse=True):
        inner_h, inner_w = round(height * gain), round(width * gain)
        if inner_h <= h and inner_w <= w:
            break
    return round((h - inner_h) / 2 - 0.1), round((w - inner_w) / 2 - 0.1), inner_h, inner_w
