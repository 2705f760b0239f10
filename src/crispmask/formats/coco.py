"""COCO annotation files: one JSON file with images, annotations and categories.

Run lengths keep every mask as it is. With `Style.polygons`, each part of a mask is one polygon. Its holes are joined to
its outline by lines of zero width; COCO's mask API keeps them as holes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crispmask.coco import CocoDataset
from crispmask.coco.results import BOX_DIGITS, SCORE_DIGITS
from crispmask.coco.rle import window_to_rle
from crispmask.files import replacing
from crispmask.formats.labels import Hints, LabelledImage, Labels, Losses, Style
from crispmask.formats.polygons import joined, outlines
from crispmask.instances import Instances


def read(path: Path, hints: Hints, losses: Losses) -> Labels:
    """Annotations of every image; scores, where there are some, are kept."""
    dataset = CocoDataset.from_file(path)

    def images() -> Iterator[LabelledImage]:
        for key, image in dataset.images.items():
            records = dataset.annotations[key]
            found = dataset.instances(key, crowds=True)
            scores = [float(record.get("score", 1.0)) for record in records]
            found = Instances(found.image_size, found.boxes, np.array(scores), found.category_ids, found.windows)
            yield LabelledImage(key, image.file_name, found, tuple(bool(record["iscrowd"]) for record in records))

    return Labels(dataset.categories, images())


def write(labels: Labels, path: Path, style: Style, losses: Losses) -> None:
    """One record a line; annotations come first, so that they need not be kept in memory."""
    images: list[dict[str, Any]] = []
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"annotations":[')
        k = 0
        for image in labels.images:
            images.append(image_record(image))
            for i in range(len(image.instances)):
                k += 1
                record = {"id": k, "image_id": image.id, **_annotation(image, i, style)}
                file.write(("," if k > 1 else "") + "\n" + _line(record))
        categories = [{"id": key, "name": name} for key, name in labels.categories.items()]
        file.write('],\n"images":[\n' + ",\n".join(map(_line, images)))
        file.write('],\n"categories":[\n' + ",\n".join(map(_line, categories)) + "]}\n")


def image_record(image: LabelledImage) -> dict[str, Any]:
    """COCO's record of an image."""
    height, width = image.instances.image_size
    return {"id": image.id, "file_name": image.file_name, "height": height, "width": width}


def _annotation(image: LabelledImage, i: int, style: Style) -> dict[str, Any]:
    instances, window = image.instances, image.instances.windows[i]
    x0, y0, x1, y1 = (float(v) for v in instances.boxes[i])
    segmentation: Any = window_to_rle(window, *instances.image_size)
    if style.polygons and not image.crowds[i] and window.mask.any():
        segmentation = [joined(rings).round(2).ravel().tolist() for rings in outlines(window, style.tolerance)]
    record = {
        "category_id": int(instances.category_ids[i]),
        "iscrowd": int(image.crowds[i]),
        "area": int(window.mask.sum()),
        "bbox": [round(v, BOX_DIGITS) for v in (x0, y0, x1 - x0, y1 - y0)],
        "segmentation": segmentation,
    }
    score = float(instances.scores[i])
    return record if score == 1 else {**record, "score": round(score, SCORE_DIGITS)}


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"))
