"""Which detection is which annotated object, and how well their masks agree.

Average precision says how good results are as a whole; these pairs say what a refinement did to each mask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.coco.dataset import CocoDataset
from crispmask.coco.rle import mask_to_rle, segmentation_to_rle
from crispmask.errors import DataError

# Width of a boundary as a share of the image's diagonal (Cheng et al., Boundary IoU, CVPR 2021).
BOUNDARY_DILATION = 0.02


@dataclass(frozen=True)
class Match:
    """A detection and the annotated object that it found.

    Attributes:
        result: number of the detection in the results.
        image_id: id of their image.
        truth: number of the annotation in ``dataset.annotations[image_id]``.
        iou: IoU of the two masks, in [0, 1].
    """

    result: int
    image_id: int
    truth: int
    iou: float


def match_results(
    dataset: CocoDataset, results: Sequence[Mapping[str, Any]], min_iou: float = 0.5, min_score: float = 0.0
) -> list[Match]:
    """Pair detections with annotated objects of their category, the surest detection first, as COCO's AP does.

    Each detection takes the object with the highest mask IoU that none before it took; crowds are left out. To compare
    two sides of a refinement, match the side before and measure both against the objects found.

    Args:
        dataset: the ground truth.
        results: COCO results; checked by `crispmask.coco.read_results`.
        min_iou: pairs below it are no match.
        min_score: detections below it are left out.

    Returns:
        The matches in the order of the results.

    Raises:
        DataError: an image that the data set does not have, or a segmentation that breaks the format.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for k, record in enumerate(results):
        if record["image_id"] not in dataset.images:
            raise DataError(f"result {k}: {dataset.path} has no image with the id {record['image_id']!r}")
        if record["score"] >= min_score:
            groups[record["image_id"], record["category_id"]].append(k)
    found = []
    for (image_id, category_id), chosen in groups.items():
        truths = [
            (t, record)
            for t, record in enumerate(dataset.annotations[image_id])
            if record["category_id"] == category_id and not record["iscrowd"]
        ]
        if truths:
            chosen.sort(key=lambda k: -results[k]["score"])
            ious = _ious(dataset, image_id, [results[k] for k in chosen], [record for _, record in truths])
            found += [
                Match(chosen[row], image_id, truths[column][0], float(ious[row, column]))
                for row, column in _greedy(ious, min_iou)
            ]
    return sorted(found, key=lambda m: m.result)


def overlaps(segmentation: Any, truth: Any, height: int, width: int) -> tuple[float, float]:
    """IoU and boundary IoU of two masks, each in [0, 1].

    Args:
        segmentation, truth: COCO segmentations in any spelling.
        height, width: of the image, pixels; boundaries are as wide as 2 % of its diagonal.

    Raises:
        DataError: a segmentation that breaks the format.
    """
    return _overlaps([segmentation_to_rle(s, height, width) for s in (segmentation, truth)])


def mask_overlaps(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """`overlaps` of two masks bool (H, W) of a whole image."""
    return _overlaps([mask_to_rle(mask), mask_to_rle(truth)])


def _overlaps(pair: list[dict[str, Any]]) -> tuple[float, float]:
    from faster_coco_eval.core import mask as api

    edges = [api.rleToBoundary(rle, BOUNDARY_DILATION) for rle in pair]
    area, boundary = (float(api.iou([a], [b], [0])[0][0]) for a, b in (pair, edges))
    return area, boundary


def _ious(
    dataset: CocoDataset, image_id: int, found: Sequence[Mapping[str, Any]], truths: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    """Mask IoU of every detection with every object: float64 (detections, objects)."""
    from faster_coco_eval.core import mask as api

    size = dataset.images[image_id].size
    sides = [[segmentation_to_rle(record.get("segmentation"), *size) for record in side] for side in (found, truths)]
    return np.asarray(api.iou(*sides, [0] * len(truths)), np.float64).reshape(len(found), len(truths))


def _greedy(ious: np.ndarray, min_iou: float) -> list[tuple[int, int]]:
    """Rows from the first on take the best column that is left, at or above `min_iou`."""
    left, pairs = ious.copy(), []
    for row in range(len(left)):
        column = int(np.argmax(left[row]))
        if left[row, column] >= max(min_iou, np.finfo(float).tiny):
            pairs.append((row, column))
            left[:, column] = -1
    return pairs
