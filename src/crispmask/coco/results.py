"""Detections in COCO's results format (https://cocodataset.org/#format-results)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crispmask.coco import records as checks
from crispmask.coco.rle import mask_to_rle, segmentation_to_mask
from crispmask.errors import CrispmaskError, DataError
from crispmask.files import write_text
from crispmask.instances import Instances, tight_box

# Enough that no score of a float32 network changes its rank in practice, and that files stay readable and equal.
SCORE_DIGITS = 6
BOX_DIGITS = 2


def instances_to_results(instances: Instances, image_id: int) -> list[dict[str, Any]]:
    """Instances as records that JSON can hold.

    Args:
        instances: the objects of one image.
        image_id: the data set's id of that image.

    Returns:
        One mapping per instance: ``image_id``, ``category_id``, ``bbox`` [x, y, width, height] in pixels rounded to
        hundredths, ``score`` rounded to six digits, ``segmentation`` as compressed RLE of the full image.
    """
    found = []
    for i in range(len(instances)):
        x0, y0, x1, y1 = (float(v) for v in instances.boxes[i])
        found.append(
            {
                "image_id": int(image_id),
                "category_id": int(instances.category_ids[i]),
                "bbox": [round(v, BOX_DIGITS) for v in (x0, y0, x1 - x0, y1 - y0)],
                "score": round(float(instances.scores[i]), SCORE_DIGITS),
                "segmentation": mask_to_rle(instances.mask(i)),
            }
        )
    return found


def results_to_instances(records: Sequence[Mapping[str, Any]], height: int, width: int) -> Instances:
    """The records of one image as instances.

    Args:
        records: as `instances_to_results` writes them; ``bbox`` may be missing (tight around the mask then), and
            ``segmentation`` may be any COCO spelling.
        height: H of the image, pixels.
        width: W of the image, pixels.

    Raises:
        DataError: a record that breaks the format, by its number and the reason.
    """
    windows, boxes, scores, categories = [], [], [], []
    for k, record in enumerate(records):
        where = f"result {k}"
        if record.get("segmentation") is None:
            raise DataError(f"{where} has no 'segmentation': masks are needed, not only boxes")
        try:
            mask = segmentation_to_mask(record["segmentation"], height, width)
        except CrispmaskError as error:
            raise DataError(f"{where}: {error}") from None
        if record.get("bbox") is None:
            boxes.append(tight_box(mask).tolist())
        else:
            x, y, w, h = checks.box(record, where)
            boxes.append([x, y, x + w, y + h])
        scores.append(checks.number(record.get("score"), "'score'", where))
        categories.append(checks.whole(record, "category_id", where))
        windows.append(Instances.from_masks(mask).windows[0])
    try:
        return Instances(
            (height, width),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(categories, np.int64),
            tuple(windows),
        )
    except CrispmaskError as error:
        raise DataError(f"results: {error}") from None


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """The records of a results file, gzip-compressed or not; masks are checked when they are decoded.

    Raises:
        DataError: a file that cannot be read, or a record without image id, category id or score.
    """
    content = checks.read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path} is not a COCO results file: it must hold a list of records")
    check_results(content, str(path))
    return content


def check_results(records: Iterable[Any], source: str) -> None:
    """Raise DataError, naming `source`, for a record without whole ids, a score, or a usable box."""
    for k, record in enumerate(records):
        where = f"{source}: result {k}"
        if not isinstance(record, Mapping):
            raise DataError(f"{where} must be an object, got {type(record).__name__}")
        checks.whole(record, "image_id", where)
        checks.whole(record, "category_id", where)
        checks.number(record.get("score"), "'score'", where)
        if record.get("bbox") is not None:
            checks.box(record, where)


def write_results(path: str | Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records as JSON, one a line, in place of an older file only when complete.

    Raises:
        DataError: a number that JSON cannot hold.
    """
    try:
        lines = [json.dumps(record, separators=(",", ":"), allow_nan=False) for record in records]
    except (TypeError, ValueError) as error:
        raise DataError(f"cannot write {path}: {error}") from None
    write_text(Path(path), "[" + ",\n".join(lines) + "]\n")
