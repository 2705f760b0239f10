"""Average precision as COCO defines it, of masks, of their boundaries, or of boxes.

faster-coco-eval counts; its results equal pycocotools' (the tests compare them). Boundary IoU is that of Cheng et al.,
"Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021, with their width of 2 % of the
image diagonal.

One choice to know: in mask evaluation a detection is small, medium or large by the area of its mask. pycocotools takes
the area of its box when the results also hold boxes; Detectron2 removes the boxes first, and so, in effect, do we.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from crispmask.coco import records as checks
from crispmask.coco.dataset import CocoDataset
from crispmask.coco.results import check_results, read_results
from crispmask.coco.rle import segmentation_to_rle
from crispmask.errors import DataError, ParamsError

IouType = Literal["segm", "boundary", "bbox"]
METRICS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")


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
    source = source or (str(results) if isinstance(results, str | Path) else "results")
    detections: list[Mapping[str, Any]] = (
        list(read_results(results)) if isinstance(results, str | Path) else list(results)
    )
    check_results(detections, source)
    categories = _known(category_ids, dataset.categories, f"category in {dataset.path}")
    images = _known(image_ids, dataset.images, f"image in {dataset.path}")
    truth = _ground_truth(dataset, iou_type, categories, images)
    found = _detections(dataset, detections, source, iou_type, categories, images)
    if not any(not record["iscrowd"] for record in truth):
        return dict.fromkeys(METRICS, float("nan"))
    return _count(dataset, truth, found, iou_type, categories, images)


def _count(
    dataset: CocoDataset,
    truth: list[dict[str, Any]],
    found: list[dict[str, Any]],
    iou_type: IouType,
    categories: list[int],
    images: list[int],
) -> dict[str, float]:
    from faster_coco_eval import COCO, COCOeval_faster

    header = {
        "images": [
            {"id": key, "height": dataset.images[key].size[0], "width": dataset.images[key].size[1]} for key in images
        ],
        "categories": [{"id": key, "name": dataset.categories[key]} for key in categories],
    }
    quiet = logging.getLogger(__name__).debug
    sets = [COCO({**header, "annotations": side}, print_function=quiet) for side in (truth, found)]
    run = COCOeval_faster(*sets, iouType=iou_type, print_function=quiet)
    run.evaluate()
    run.accumulate()
    # (IoU thresholds, recalls, categories, areas: all small medium large, detections per image: 1 10 100)
    precision = np.asarray(run.eval["precision"])[..., -1]
    thresholds = np.asarray(run.params.iouThrs)

    def mean(part: np.ndarray) -> float:
        return float(part[part > -1].mean()) if (part > -1).any() else float("nan")

    at = {value: int(np.argmin(np.abs(thresholds - value))) for value in (0.5, 0.75)}
    values = (
        precision[..., 0],
        precision[at[0.5], ..., 0],
        precision[at[0.75], ..., 0],
        *(precision[..., k] for k in (1, 2, 3)),
    )
    return dict(zip(METRICS, map(mean, values), strict=True))


def _ground_truth(
    dataset: CocoDataset, iou_type: IouType, categories: list[int], images: list[int]
) -> list[dict[str, Any]]:
    """Annotation records as the C++ code needs them: ids from 1 (0 would mean unmatched), checked masks, areas."""
    wanted = set(categories)
    truth: list[dict[str, Any]] = []
    for image_id in images:
        height, width = dataset.images[image_id].size
        for record in dataset.annotations[image_id]:
            if record["category_id"] not in wanted:
                continue
            where = f"{dataset.path}: annotation {record.get('id')!r}"
            entry = _geometry(record, iou_type, height, width, where)
            # A size class goes by the annotated area where there is one, as in pycocotools.
            area = entry["area"] if record.get("area") is None else float(record["area"])
            entry.update(iscrowd=record["iscrowd"], ignore=record["iscrowd"], area=area, id=len(truth) + 1)
            truth.append(entry)
    return truth


def _detections(
    dataset: CocoDataset,
    detections: list[Mapping[str, Any]],
    source: str,
    iou_type: IouType,
    categories: list[int],
    images: list[int],
) -> list[dict[str, Any]]:
    wanted_categories, wanted_images = set(categories), set(images)
    found: list[dict[str, Any]] = []
    for k, record in enumerate(detections):
        where = f"{source}: result {k}"
        if record["image_id"] not in dataset.images:
            raise DataError(f"{where}: {dataset.path} has no image with the id {record['image_id']!r}")
        # Detectors find what the ground truth does not name; pycocotools leaves those out as well.
        if record["category_id"] not in wanted_categories or record["image_id"] not in wanted_images:
            continue
        entry = _geometry(record, iou_type, *dataset.images[record["image_id"]].size, where)
        entry.update(iscrowd=0, score=float(record["score"]), id=len(found) + 1)
        found.append(entry)
    return found


def _geometry(record: Mapping[str, Any], iou_type: IouType, height: int, width: int, where: str) -> dict[str, Any]:
    """Ids, box, area and, unless only boxes are compared, the mask of a record, as the C++ code needs them."""
    from faster_coco_eval.core import mask as api

    entry: dict[str, Any] = {"image_id": int(record["image_id"]), "category_id": int(record["category_id"])}
    if iou_type == "bbox":
        if record.get("bbox") is None:
            raise DataError(f"{where} has no 'bbox'")
        entry["bbox"] = checks.box(record, where)
        entry["area"] = entry["bbox"][2] * entry["bbox"][3]
        return entry
    try:
        rle = segmentation_to_rle(record.get("segmentation"), height, width)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    entry.update(segmentation=rle, area=float(api.area(rle)), bbox=[float(v) for v in api.toBbox(rle)])
    return entry


def _known(chosen: Iterable[int] | None, known: Mapping[int, Any], what: str) -> list[int]:
    """The chosen ids, sorted; all known ones by default."""
    if chosen is None:
        return list(known)
    ids = sorted({int(key) for key in chosen})
    for key in ids:
        if key not in known:
            raise DataError(f"there is no {what} with the id {key}")
    return ids
