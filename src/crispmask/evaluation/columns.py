"""Records as columns: what evaluation needs of annotations and detections, checked and sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.coco.dataset import CocoDataset
from crispmask.coco.rle import check_segmentation, segmentation_to_rle
from crispmask.coco.runs import MaskRuns
from crispmask.errors import DataError
from crispmask.evaluation.overlap import boundaries

MOST_DETECTIONS = 100
"""COCO counts so many detections of an image and category, those of the highest scores."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Annotations, or detections, sorted by image and category, detections then by descending score.

    Attributes:
        number: int64 (N,), which record each row is: of the results, or of all annotations in the images' order.
        group: int64 (N,), ascending: number of the image times the number of categories plus that of the category.
        score: float64 (N,), 0 for annotations.
        crowd: uint8 (N,), 1 for annotations of crowds.
        area: float64 (N,), as annotated, NaN where it is not.
        boxes: float64 (N, 4) [x, y, width, height] in pixels, or None if not asked for.
        masks: or None if not asked for.
        boundaries: of the masks.
    """

    number: NDArray[np.int64]
    group: NDArray[np.int64]
    score: NDArray[np.float64]
    crowd: NDArray[np.uint8]
    area: NDArray[np.float64]
    boxes: NDArray[np.float64] | None
    masks: MaskRuns | None

    @cached_property
    def boundaries(self) -> MaskRuns:
        assert self.masks is not None
        return boundaries(self.masks)


def annotation_columns(
    dataset: CocoDataset, categories: Sequence[int], images: Sequence[int], *, masks: bool, boxes: bool
) -> Columns:
    """The annotations of some categories and images.

    Raises:
        DataError: a box or segmentation that is missing or breaks the format.
    """
    column = {key: k for k, key in enumerate(categories)}
    number, group, crowd, area, chosen = [], [], [], [], []
    n = 0
    for i, image_id in enumerate(images):
        for record in dataset.annotations[image_id]:
            k = column.get(record["category_id"])
            if k is not None:
                number.append(n)
                group.append(i * len(categories) + k)
                crowd.append(record["iscrowd"])
                area.append(np.nan if record.get("area") is None else record["area"])
                chosen.append(record)
            n += 1
    order = np.argsort(np.array(group, np.int64), kind="stable")

    def where(k: int) -> str:
        return f"{dataset.path}: annotation {chosen[order[k]].get('id')!r}"

    return _columns(
        dataset, [chosen[k] for k in order], where, masks, boxes, order, number, group, [0.0] * len(group), crowd, area
    )


def detection_columns(
    dataset: CocoDataset,
    results: Sequence[Mapping[str, Any]],
    categories: Sequence[int],
    images: Sequence[int],
    source: str,
    *,
    masks: bool,
    boxes: bool,
    min_score: float = -np.inf,
) -> Columns:
    """The detections of some categories and images, at most 100 of each image and category.

    Args:
        results: checked by `crispmask.coco.read_results`.
        source: what the results are called in errors.
        min_score: detections below it are left out.

    Raises:
        DataError: an image that the data set does not have, or a box or segmentation that is missing or breaks the
            format.
    """
    column, row = {key: k for k, key in enumerate(categories)}, {key: i for i, key in enumerate(images)}
    number, group, score = [], [], []
    for n, record in enumerate(results):
        i, k = row.get(record["image_id"]), column.get(record["category_id"])
        if i is None and record["image_id"] not in dataset.images:
            raise DataError(f"{source}: result {n}: {dataset.path} has no image with the id {record['image_id']!r}")
        # Detections of categories that the ground truth does not have are left out, as in pycocotools.
        if i is not None and k is not None and record["score"] >= min_score:
            number.append(n)
            group.append(i * len(categories) + k)
            score.append(record["score"])
    groups = np.array(group, np.int64)
    order = np.lexsort((-np.array(score, np.float64), groups))
    rank = np.arange(len(order)) - np.searchsorted(groups[order], groups[order])
    order = order[rank < MOST_DETECTIONS]
    chosen = [results[number[k]] for k in order]

    def where(k: int) -> str:
        return f"{source}: result {number[order[k]]}"

    nothing = [0] * len(group)
    return _columns(dataset, chosen, where, masks, boxes, order, number, group, score, nothing, [np.nan] * len(group))


def grouped(truth: NDArray[np.int64], found: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which detections and objects are of one image and category.

    Returns:
        int64 (G, 5) for each image and category with detections, as `_kernels.match` takes them; and every pair of rows
        (found, truth) in these groups, int64 (P, 2).
    """
    keys, first, count = np.unique(found, return_index=True, return_counts=True)
    begin, end = np.searchsorted(truth, keys), np.searchsorted(truth, keys, side="right")
    sizes = count * (end - begin)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    groups = np.stack([first, count, begin, end - begin, offsets[:-1]], axis=1).astype(np.int64)
    inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
    width = np.repeat(end - begin, sizes)
    pairs = np.stack([np.repeat(first, sizes), np.repeat(begin, sizes)], axis=1).astype(np.int64)
    pairs += np.stack([inside // np.maximum(width, 1), inside % np.maximum(width, 1)], axis=1).astype(np.int64)
    return groups, pairs


def _columns(
    dataset: CocoDataset,
    chosen: list[Mapping[str, Any]],
    where: Any,
    masks: bool,
    boxes: bool,
    order: NDArray[np.int64],
    number: Iterable[int],
    group: Iterable[int],
    score: Iterable[float],
    crowd: Iterable[int],
    area: Iterable[float],
) -> Columns:
    return Columns(
        np.array(number, np.int64)[order],
        np.array(group, np.int64)[order],
        np.array(score, np.float64)[order],
        np.array(crowd, np.uint8)[order],
        np.array(area, np.float64)[order],
        _boxes(chosen, where) if boxes else None,
        _masks(dataset, chosen, where) if masks else None,
    )


def _boxes(chosen: list[Mapping[str, Any]], where: Any) -> NDArray[np.float64]:
    found = []
    for k, record in enumerate(chosen):
        if record.get("bbox") is None:
            raise DataError(f"{where(k)} has no 'bbox'")
        found.append(record["bbox"])
    return np.array(found, np.float64).reshape(-1, 4)


def _masks(dataset: CocoDataset, chosen: list[Mapping[str, Any]], where: Any) -> MaskRuns:
    sizes = [dataset.images[record["image_id"]].size for record in chosen]
    counts = []
    for k, (record, (height, width)) in enumerate(zip(chosen, sizes, strict=True)):
        rle = record.get("segmentation")
        # Compressed RLE, the usual case, is checked below, all records at once.
        if not isinstance(rle, dict) or not isinstance(rle.get("counts"), str) or rle.get("size") != [height, width]:
            rle = _checked(segmentation_to_rle, rle, height, width, where(k))
        counts.append(rle["counts"])
    shape = np.array(sizes, np.int64).reshape(-1, 2)
    try:
        return MaskRuns.from_counts([text.encode("ascii") for text in counts], shape[:, 0], shape[:, 1])
    except (DataError, UnicodeEncodeError):
        for k, (record, (height, width)) in enumerate(zip(chosen, sizes, strict=True)):
            _checked(check_segmentation, record.get("segmentation"), height, width, where(k))
        raise


def _checked(check: Callable[..., Any], segmentation: Any, height: int, width: int, where: str) -> Any:
    """The result of a check of a segmentation; its DataError begins with `where`."""
    try:
        return check(segmentation, height, width)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
