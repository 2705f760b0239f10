"""Which detection is which annotated object.

There is one matcher, COCO's: average precision uses it for every size class and IoU threshold, and the matched
instances of a comparison are its matches at one threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.coco.dataset import CocoDataset
from crispmask.coco.runs import MaskRuns
from crispmask.evaluation.columns import Columns, annotation_columns, detection_columns, grouped
from crispmask.evaluation.overlap import pair_ious
from crispmask.instances import Instances

MIN_IOU = 0.5
"""The least mask IoU of a detection and the object that it matches, unless told otherwise."""


@dataclass(frozen=True)
class Match:
    """A detection and the annotated object that it matches.

    Attributes:
        result: number of the detection in the results.
        image_id: id of their image.
        annotation: number of the object in ``dataset.annotations[image_id]``.
        iou: IoU of the two masks, in [0, 1].
    """

    result: int
    image_id: int
    annotation: int
    iou: float


def match_results(
    dataset: CocoDataset, results: Sequence[Mapping[str, Any]], min_iou: float = MIN_IOU, min_score: float = 0.0
) -> list[Match]:
    """Match detections with annotated objects of their image and category, as COCO's AP does.

    Detections are taken in the order of descending score. Each matches the object with the highest mask IoU among those
    that are not matched yet. Crowds are left out, and so are detections beyond the first 100 of an image and category.
    To compare results before and after a refinement, match those before and measure both against the matched objects.

    Args:
        dataset: the ground truth.
        results: COCO results; checked by `crispmask.coco.read_results`.
        min_iou: pairs with a lower IoU do not match, nor do those with an IoU of 0.
        min_score: detections below it are left out.

    Returns:
        The matches in the order of the results.

    Raises:
        DataError: an image that the data set does not have, or a segmentation that breaks the format.
    """
    categories, images = list(dataset.categories), list(dataset.images)
    truth = annotation_columns(dataset, categories, images, masks=True, boxes=False)
    found = detection_columns(
        dataset, results, categories, images, "results", masks=True, boxes=False, min_score=min_score
    )
    partner, ious = match_objects(truth, found, min_iou)
    starts = np.cumsum([0, *(len(dataset.annotations[key]) for key in images)])
    matches = []
    for row in np.flatnonzero(partner >= 0):
        image = int(found.group[row]) // len(categories)
        number = int(truth.number[partner[row]] - starts[image])
        matches.append(Match(int(found.number[row]), images[image], number, float(ious[row])))
    return sorted(matches, key=lambda m: m.result)


def match_instances(found: Instances, annotated: Instances, min_iou: float = MIN_IOU) -> list[tuple[int, int]]:
    """`match_results` of one image.

    Args:
        found: detections with scores; annotated: the objects, none of them crowds; both of one image.
        min_iou: as for `match_results`.

    Returns:
        Pairs of numbers (detection, object), by descending score.
    """
    ids = np.unique(np.concatenate([found.category_ids, annotated.category_ids]))
    sides = []
    for side in (annotated, found):
        group = np.searchsorted(ids, side.category_ids).astype(np.int64)
        order = np.lexsort((-side.scores, group))
        masks = MaskRuns.from_masks([side.mask(int(i)) for i in order])
        crowd, area = np.zeros(len(order), np.uint8), np.full(len(order), np.nan)
        sides.append(Columns(order, group[order], side.scores[order].astype(np.float64), crowd, area, None, masks))
    partner, _ = match_objects(sides[0], sides[1], min_iou)
    matches = {int(sides[1].number[row]): int(sides[0].number[partner[row]]) for row in np.flatnonzero(partner >= 0)}
    return [(i, matches[i]) for i in np.argsort(-found.scores, kind="stable").tolist() if i in matches]


def match_objects(
    truth: Columns, found: Columns, min_iou: float = MIN_IOU
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`match_results` of columns with masks.

    Returns:
        The row of truth that each detection matches, int64 (detections,), -1 for none; and their IoU, 0 for none.
    """
    assert truth.masks is not None
    assert found.masks is not None
    groups, pairs = grouped(truth.group, found.group)
    ious = pair_ious(found.masks, truth.masks, pairs, truth.crowd)
    counted = truth.crowd[:, None] == 0
    least = max(min_iou, np.finfo(np.float64).tiny)  # masks that do not touch never match
    partner = match_groups(groups, ious, counted, truth.crowd, np.array([least]), len(found.group))[0, 0]
    partner[(partner >= 0) & (np.append(truth.crowd, 0)[partner] != 0)] = -1
    own = np.zeros(len(partner))
    hit = partner[pairs[:, 0]] == pairs[:, 1]
    own[pairs[hit, 0]] = ious[hit]
    return partner, own


def match_groups(
    groups: NDArray[np.int64],
    ious: NDArray[np.float64],
    counted: NDArray[np.bool_],
    crowd: NDArray[np.uint8],
    thresholds: NDArray[np.float64],
    detections: int,
) -> NDArray[np.int64]:
    """The object that each detection matches, for every size class and IoU threshold.

    Args:
        groups: int64 (G, 5), from `grouped`.
        ious: float64 (P,), of the pairs from `grouped`.
        counted: bool (objects, A), whether an object counts in a size class; one that does not takes detections out of
            the count.
        crowd: uint8 (objects,), 1 for a crowd, which can be matched many times.
        thresholds: float64 (T,).
        detections: their number.

    Returns:
        Rows of objects, int64 (A, T, detections), -1 for none.
    """
    from crispmask.evaluation import _kernels

    partner = np.full((counted.shape[1], len(thresholds), detections), -1, np.int64)
    _kernels.match(groups, ious, counted.astype(np.uint8), crowd, thresholds, partner)
    return partner
