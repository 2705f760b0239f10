"""Which detection is which annotated object, and how well their masks agree.

Average precision says how good results are as a whole; these pairs say what a refinement did to each mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.coco.dataset import CocoDataset
from crispmask.coco.rle import mask_to_rle, segmentation_to_rle
from crispmask.evaluation.columns import Columns, detection_columns, grouped, truth_columns

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

    Each detection takes the object with the highest mask IoU that none before it took. Crowds, and detections beyond
    the surest 100 of an image and category, are left out. To compare two sides of a refinement, match the side before
    and measure both against the objects found.

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
    categories, images = list(dataset.categories), list(dataset.images)
    truth = truth_columns(dataset, categories, images, masks=True, boxes=False)
    found = detection_columns(
        dataset, results, categories, images, "results", masks=True, boxes=False, min_score=min_score
    )
    partner, ious = partners(truth, found, min_iou)
    starts = np.cumsum([0, *(len(dataset.annotations[key]) for key in images)])
    matches = []
    for row in np.flatnonzero(partner >= 0):
        image = int(found.group[row]) // len(categories)
        number = int(truth.number[partner[row]] - starts[image])
        matches.append(Match(int(found.number[row]), images[image], number, float(ious[row])))
    return sorted(matches, key=lambda m: m.result)


def partners(truth: Columns, found: Columns, min_iou: float = 0.5) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`match_results` of columns with masks: each detection's row of truth, -1 for none, and the IoU with it."""
    from crispmask.evaluation import _kernels

    assert truth.masks is not None
    assert found.masks is not None
    groups, pairs = grouped(truth.group, found.group)
    ious = np.empty(len(pairs), np.float64)
    _kernels.mask_ious(found.masks.stretches, truth.masks.stretches, pairs, truth.crowd, ious)
    partner = np.full(len(found.group), -1, np.int64)
    _kernels.pair(groups, ious, truth.crowd, min_iou, partner)
    own = np.zeros(len(partner))
    hit = partner[pairs[:, 0]] == pairs[:, 1]
    own[pairs[hit, 0]] = ious[hit]
    return partner, own


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
