"""Average precision as COCO defines it, of masks, of their boundaries, or of boxes.

Results equal pycocotools' to the last bit but for the order of sums (the tests compare them). Boundary IoU is that of
Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021, with their width of
2 % of the image diagonal, rounded as their code does; faster-coco-eval gives the same Boundary AP but for images where
that ends in a half, such as 300 x 225 pixels, some of which it rounds the other way.

The counting is done here, because resampling (`crispmask.evaluation.bootstrap`) needs to know which detection of
which image was right, and neither pycocotools nor its faster successors give that out for every size and threshold.

One choice to know: in mask evaluation a detection is small, medium or large by the area of its mask. pycocotools takes
the area of its box when the results also hold boxes; Detectron2 removes the boxes first, and so, in effect, do we.
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
from crispmask.evaluation.columns import Columns, detection_columns, grouped, truth_columns

IouType = Literal["segm", "boundary", "bbox"]
METRICS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
# Area in pixels, both ends included: all, small, medium, large.
SIZES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])
SIZE_NAMES = ("all", "small", "medium", "large")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Detections compared with the ground truth, image by image, so that they can be counted again.

    Attributes:
        categories: K ids, ascending.
        images: the number of images.
        verdicts: uint8 (4 sizes, 10 thresholds, detections): false, true, or not counted; by category, in it the
            surest first.
        image: int64 (detections,), the number of each one's image.
        bounds: int64 (K + 1,), where each category's detections begin.
        tie: int64 (detections,), behind the last of the detections of the same image and score that follow.
        wanted: int64 (objects, 4), the number of the category of each object that counts at that size, else -1.
        wanted_image: int64 (objects,), the number of each one's image.
    """

    categories: tuple[int, ...]
    images: int
    verdicts: NDArray[np.uint8]
    image: NDArray[np.int64]
    bounds: NDArray[np.int64]
    tie: NDArray[np.int64]
    wanted: NDArray[np.int64]
    wanted_image: NDArray[np.int64]

    def count(self, weights: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """The six metrics of every category, with every image taken as often as its weight says.

        Equal to evaluating a data set in which each image, with its annotations and detections, is there so many
        times under different ids, copies one after the other (the order decides between equal scores).

        Args:
            weights: int (B, images), B weightings at once; by default every image counts once.

        Returns:
            float64 (B, K, 6) in the order of `METRICS`, fractions in [0, 1]; NaN where no object counts.
        """
        from crispmask.evaluation import _kernels

        rows = np.ones((1, self.images), np.int64) if weights is None else np.ascontiguousarray(weights, np.int64)
        precision = np.empty((len(rows), len(self.categories), len(SIZES), len(THRESHOLDS)))
        wanted = self.wanted, self.wanted_image
        _kernels.precision(self.bounds, self.verdicts, self.image, self.tie, *wanted, rows, RECALLS, precision)
        mean = precision.mean(axis=-1)
        at50, at75 = (int(np.argmin(np.abs(THRESHOLDS - value))) for value in (0.5, 0.75))
        single = precision[:, :, 0, at50], precision[:, :, 0, at75]
        return np.stack([mean[..., 0], *single, mean[..., 1], mean[..., 2], mean[..., 3]], axis=-1)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of all categories together, as `evaluate` gives them."""
        return dict(zip(METRICS, overall(self.count())[0].tolist(), strict=True))

    @property
    def by_category(self) -> dict[int, dict[str, float]]:
        """The metrics of each category."""
        values = self.count()[0].tolist()
        return {key: dict(zip(METRICS, row, strict=True)) for key, row in zip(self.categories, values, strict=True)}

    @property
    def objects(self) -> dict[int, int]:
        """How many annotated objects, crowds left out, each category has."""
        counts = np.bincount(self.wanted[self.wanted[:, 0] >= 0, 0], minlength=len(self.categories))
        return dict(zip(self.categories, counts.tolist(), strict=True))


def overall(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the categories (axis -2) that have objects; NaN where none has."""
    known = ~np.isnan(values)
    count = known.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=-2) / np.where(count, count, np.nan)


def evaluate(
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
    truth = truth_columns(dataset, categories, images, masks=masks, boxes=boxes)
    found = detection_columns(dataset, results, categories, images, source or "results", masks=masks, boxes=boxes)
    return judge(truth, found, iou_type, categories, len(images)).metrics


def judge(truth: Columns, found: Columns, iou_type: IouType, categories: Sequence[int], images: int) -> Evaluation:
    """Compare detections with the ground truth of the same categories and images.

    Args:
        truth, found: with masks, or with boxes for ``"bbox"``.
        categories: their K ids, ascending; images: the number of images.
    """
    from crispmask.evaluation import _kernels

    groups, pairs = grouped(truth.group, found.group)
    ious, area, truth_area = _overlaps(truth, found, iou_type, pairs)
    category, image = found.group % len(categories), found.group // len(categories)
    order = np.lexsort((-found.score, category))  # within equal scores, by image and the order there
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    verdicts = np.empty((len(SIZES), len(THRESHOLDS), len(order)), np.uint8)
    _kernels.match(groups, ious, area, truth_area, truth.crowd, THRESHOLDS, SIZES, place, verdicts)
    counted = (truth_area[:, None] >= SIZES[:, 0]) & (truth_area[:, None] <= SIZES[:, 1]) & (truth.crowd[:, None] == 0)
    return Evaluation(
        tuple(categories),
        images,
        verdicts,
        image[order],
        np.searchsorted(category[order], np.arange(len(categories) + 1)).astype(np.int64),
        _ties(category[order], image[order], found.score[order]),
        np.where(counted, (truth.group % len(categories))[:, None], -1),
        truth.group // len(categories),
    )


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


def _overlaps(
    truth: Columns, found: Columns, iou_type: IouType, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """IoU of the pairs, and the areas by which detections and objects are small, medium or large."""
    from crispmask.evaluation import _kernels

    ious = np.empty(len(pairs), np.float64)
    if iou_type == "bbox":
        assert truth.boxes is not None
        assert found.boxes is not None
        _kernels.box_ious(found.boxes, truth.boxes, pairs, truth.crowd, ious)
        area, own = (boxes[:, 2] * boxes[:, 3] for boxes in (found.boxes, truth.boxes))
    else:
        assert truth.masks is not None
        assert found.masks is not None
        _kernels.mask_ious(found.masks.stretches, truth.masks.stretches, pairs, truth.crowd, ious)
        area, own = found.masks.area, truth.masks.area
        if iou_type == "boundary":
            edges = np.empty_like(ious)
            sides = [side.boundaries.stretches for side in (found.masks, truth.masks)]
            _kernels.mask_ious(*sides, pairs, truth.crowd, edges)
            # A crowd has no boundary to speak of.
            ious = np.where(truth.crowd[pairs[:, 1]] != 0, ious, np.minimum(ious, edges))
    # A size class goes by the annotated area where there is one, as in pycocotools.
    return ious, area, np.where(np.isnan(truth.area), own, truth.area)


def _ties(category: NDArray[np.int64], image: NDArray[np.int64], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Behind each detection's run of equal category, image and score: int64 (n,)."""
    n = len(score)
    if not n:
        return np.zeros(0, np.int64)
    new = (np.diff(category) != 0) | (np.diff(image) != 0) | (np.diff(score) != 0)
    ends = np.concatenate((np.flatnonzero(new) + 1, [n]))
    return ends[np.searchsorted(ends, np.arange(n), side="right")].astype(np.int64)
