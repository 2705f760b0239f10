"""Average precision as COCO defines it, of masks, of their boundaries, or of boxes.

Results equal those of pycocotools to the last bit but for the order of sums (the tests compare them). In boundary AP
the IoU of two masks is the smaller one of their mask IoU and their boundary IoU (`crispmask.evaluation.overlap`), as in
Cheng et al., CVPR 2021.

The matches are kept in arrays, by size class and IoU threshold, since the bootstrap counts them a thousand times. Why
they do not come from a library is measured in the documentation (evaluate.md).

One choice to know: in mask evaluation a detection is small, medium or large by the area of its mask. pycocotools takes
the area of its box where the results also hold boxes; Detectron2 removes the boxes first, which gives the same as here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from crispmask.coco.dataset import CocoDataset
from crispmask.coco.results import check_results, read_results
from crispmask.errors import DataError, ParamsError
from crispmask.evaluation.columns import Columns, annotation_columns, detection_columns, grouped
from crispmask.evaluation.matching import match_groups
from crispmask.evaluation.overlap import pair_ious

IouType = Literal["segm", "boundary", "bbox"]
METRICS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
# Area in pixels, both ends included: all, small, medium, large.
SIZES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])
SIZE_NAMES = ("all", "small", "medium", "large")


@dataclass(frozen=True, eq=False)
class MatchedDetections:
    """Detections matched with the ground truth, image by image, so that they can be counted again and again.

    Detections are sorted by category and then by descending score.

    Attributes:
        categories: K ids, ascending.
        images: the number of images.
        outcome: uint8 (4 sizes, 10 thresholds, detections): false positive, true positive, or ignored.
        image: int64 (detections,), the number of each one's image.
        bounds: int64 (K + 1,), where each category's detections begin.
        tie: int64 (detections,), the end of the detections with the same category, image and score.
        object_category: int64 (objects, 4), the number of the category of each object that counts at that size, else
            -1.
        object_image: int64 (objects,), the number of each one's image.
    """

    categories: tuple[int, ...]
    images: int
    outcome: NDArray[np.uint8]
    image: NDArray[np.int64]
    bounds: NDArray[np.int64]
    tie: NDArray[np.int64]
    object_category: NDArray[np.int64]
    object_image: NDArray[np.int64]

    def measure(self, weights: NDArray[np.integer[Any]] | None = None) -> NDArray[np.float64]:
        """The six metrics of every category, with every image counted as often as its weight says.

        Equal to evaluating a data set that holds so many copies of each image with its annotations and detections,
        under different ids, one after the other (the order decides between equal scores).

        Args:
            weights: int (B, images), B weightings at once; by default every image counts once.

        Returns:
            float64 (B, K, 6) in the order of `METRICS`, fractions in [0, 1]; NaN where no object counts.
        """
        from crispmask.evaluation import _kernels

        rows = np.ones((1, self.images), np.int64) if weights is None else np.ascontiguousarray(weights, np.int64)
        precision = np.empty((len(rows), len(self.categories), len(SIZES), len(THRESHOLDS)))
        objects = self.object_category, self.object_image
        _kernels.average_precision(self.bounds, self.outcome, self.image, self.tie, *objects, rows, RECALLS, precision)
        mean = precision.mean(axis=-1)
        at50, at75 = (int(np.argmin(np.abs(THRESHOLDS - value))) for value in (0.5, 0.75))
        single = precision[:, :, 0, at50], precision[:, :, 0, at75]
        return np.stack([mean[..., 0], *single, mean[..., 1], mean[..., 2], mean[..., 3]], axis=-1)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of all categories together, as `average_precision` gives them."""
        return dict(zip(METRICS, overall(self.measure())[0].tolist(), strict=True))

    @property
    def by_category(self) -> dict[int, dict[str, float]]:
        """The metrics of each category."""
        values = self.measure()[0].tolist()
        return {key: dict(zip(METRICS, row, strict=True)) for key, row in zip(self.categories, values, strict=True)}

    @property
    def objects(self) -> dict[int, int]:
        """How many annotated objects, crowds left out, each category has."""
        counts = np.bincount(self.object_category[self.object_category[:, 0] >= 0, 0], minlength=len(self.categories))
        return dict(zip(self.categories, counts.tolist(), strict=True))


def overall(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the categories (axis -2) that have objects; NaN where none has."""
    known = ~np.isnan(values)
    count = known.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=-2) / np.where(count, count, np.nan)


def average_precision(
    annotations: str | Path | CocoDataset,
    results: str | Path | Sequence[Mapping[str, Any]],
    iou_type: IouType = "segm",
    *,
    category_ids: Iterable[int] | None = None,
    image_ids: Iterable[int] | None = None,
    source: str | None = None,
) -> dict[str, float]:
    """Average precision of detections against ground truth.

    Args:
        annotations: a COCO annotation file, or a data set already read.
        results: a COCO results file, or its records; neither is changed.
        iou_type: what is compared: ``"segm"`` masks, ``"boundary"`` their boundaries, ``"bbox"`` boxes.
        category_ids: only these; by default all of the data set.
        image_ids: only these; by default all of the data set, those without a detection included.
        source: what the results are called in errors; by default their file, or "results".

    Returns:
        ``AP`` (mean over the IoU thresholds 0.50, 0.55, ..., 0.95), ``AP50``, ``AP75``, and AP of small, medium and
        large objects (``AP_S`` below 32^2 pixels of area, ``AP_M``, ``AP_L`` from 96^2), each a fraction in [0, 1],
        or NaN where the ground truth has no such object.

    Raises:
        ParamsError: an unknown `iou_type`.
        DataError: a file or record that breaks the format, or ids that the data set does not have.
    """
    if iou_type not in get_args(IouType):
        raise ParamsError(f"iou_type must be one of {', '.join(get_args(IouType))}, got {iou_type!r}")
    dataset = annotations if isinstance(annotations, CocoDataset) else CocoDataset.from_file(annotations)
    if isinstance(results, str | Path):
        source = source or str(results)
        results = read_results(results)
    else:
        check_results(results, source or "results")
    categories = known_ids(category_ids, dataset.categories, f"category in {dataset.path}")
    images = known_ids(image_ids, dataset.images, f"image in {dataset.path}")
    masks, boxes = iou_type != "bbox", iou_type == "bbox"
    truth = annotation_columns(dataset, categories, images, masks=masks, boxes=boxes)
    found = detection_columns(dataset, results, categories, images, source or "results", masks=masks, boxes=boxes)
    return match_detections(truth, found, iou_type, categories, len(images)).metrics


def match_detections(
    truth: Columns, found: Columns, iou_type: IouType, categories: Sequence[int], images: int
) -> MatchedDetections:
    """Match detections with the ground truth of the same categories and images.

    Args:
        truth, found: with masks, or with boxes for ``"bbox"``.
        categories: their K ids, ascending; images: the number of images.
    """
    groups, pairs = grouped(truth.group, found.group)
    ious, area, truth_area = _ious(truth, found, iou_type, pairs)
    counted = _in_range(truth_area) & (truth.crowd[:, None] == 0)
    partner = match_groups(groups, ious, counted, truth.crowd, THRESHOLDS, len(found.group))
    category, image = found.group % len(categories), found.group // len(categories)
    order = np.lexsort((-found.score, category))  # within equal scores, by image and the order there
    return MatchedDetections(
        tuple(categories),
        images,
        _outcome(partner, counted, _in_range(area))[..., order],
        image[order],
        np.searchsorted(category[order], np.arange(len(categories) + 1)).astype(np.int64),
        _ties(category[order], image[order], found.score[order]),
        np.where(counted, (truth.group % len(categories))[:, None], -1),
        truth.group // len(categories),
    )


def _in_range(area: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each area is of each size class: bool (n, 4)."""
    return (area[:, None] >= SIZES[:, 0]) & (area[:, None] <= SIZES[:, 1])


def _outcome(partner: NDArray[np.int64], counted: NDArray[np.bool_], in_range: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """False positive, true positive or ignored: uint8 (4, 10, detections).

    Args:
        partner: int64 (4, 10, detections), the object that each one matches, -1 for none.
        counted: bool (objects, 4), in_range: bool (detections, 4).
    """
    from crispmask.evaluation._kernels import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE

    made = np.empty(partner.shape, np.uint8)
    for a, own in enumerate(partner):
        kinds = np.append(np.where(counted[:, a], TRUE_POSITIVE, IGNORED), 0)
        alone = np.where(in_range[:, a], FALSE_POSITIVE, IGNORED)
        made[a] = np.where(own >= 0, kinds[own], alone)
    return made


def known_ids(chosen: Iterable[int] | None, known: Mapping[int, Any], what: str) -> list[int]:
    """The chosen ids, ascending; all known ones by default.

    Raises:
        DataError: an id that is not known.
    """
    if chosen is None:
        return list(known)
    ids = sorted({int(key) for key in chosen})
    for key in ids:
        if key not in known:
            raise DataError(f"there is no {what} with the id {key}")
    return ids


def _ious(
    truth: Columns, found: Columns, iou_type: IouType, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """IoU of the pairs, and the areas by which detections and objects are small, medium or large."""
    if iou_type == "bbox":
        from crispmask.evaluation import _kernels

        assert truth.boxes is not None
        assert found.boxes is not None
        ious = np.empty(len(pairs), np.float64)
        _kernels.box_ious(found.boxes, truth.boxes, pairs, truth.crowd, ious)
        area, own = (boxes[:, 2] * boxes[:, 3] for boxes in (found.boxes, truth.boxes))
    else:
        assert truth.masks is not None
        assert found.masks is not None
        ious = pair_ious(found.masks, truth.masks, pairs, truth.crowd)
        area, own = found.masks.area, truth.masks.area
        if iou_type == "boundary":
            inner = pair_ious(found.boundaries, truth.boundaries, pairs, truth.crowd)
            # As in the authors' code, boundaries do not matter for a crowd.
            ious = np.where(truth.crowd[pairs[:, 1]] != 0, ious, np.minimum(ious, inner))
    # The size class goes by the annotated area where there is one, as in pycocotools.
    return ious, area, np.where(np.isnan(truth.area), own, truth.area)


def _ties(category: NDArray[np.int64], image: NDArray[np.int64], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each detection, the end of those with equal category, image and score: int64 (n,)."""
    n = len(score)
    if not n:
        return np.zeros(0, np.int64)
    new = (np.diff(category) != 0) | (np.diff(image) != 0) | (np.diff(score) != 0)
    ends = np.concatenate((np.flatnonzero(new) + 1, [n]))
    return ends[np.searchsorted(ends, np.arange(n), side="right")].astype(np.int64)
