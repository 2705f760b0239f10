"""COCO results: a JSON list of detections. The names of the images are in a file beside it, ``images.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crispmask.coco import CocoDataset, instances_to_results, read_results, results_to_instances, write_results
from crispmask.errors import DataError
from crispmask.files import write_text
from crispmask.formats.coco import image_record
from crispmask.formats.labels import Hints, LabelledImage, Labels, Losses, Style


def read(path: Path, hints: Hints, losses: Losses) -> Labels:
    """Detections of every image that the data set names."""
    dataset = hints.dataset
    if dataset is None:
        beside = path.with_name("images.json")
        if not beside.is_file():
            raise DataError(f"{path} does not say which photos it is about: add --annotations GT.json")
        dataset = CocoDataset.from_file(beside, annotations=False)
    by_image: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    for k, record in enumerate(read_results(path)):
        if record["image_id"] not in dataset.images:
            raise DataError(f"{path}: result {k}: there is no image with the id {record['image_id']} in {dataset.path}")
        by_image.setdefault(int(record["image_id"]), []).append((k, record))

    def images() -> Iterator[LabelledImage]:
        for key, image in dataset.images.items():
            own = by_image.get(key, [])
            try:
                found = results_to_instances([record for _, record in own], *image.size)
            except DataError as error:
                numbers = ", ".join(str(k) for k, _ in own[:9])
                raise DataError(f"{path}: of image {key} (results {numbers}): {error}") from None
            yield LabelledImage(key, image.file_name, found, (False,) * len(found))

    return Labels(dataset.categories, images())


def write(labels: Labels, path: Path, style: Style, losses: Losses) -> None:
    """Masks as run lengths, since pycocotools takes nothing else in results."""
    if style.polygons:
        raise DataError("COCO results hold run lengths: write coco annotations for polygons")
    images: list[dict[str, Any]] = []

    def records() -> Iterator[dict[str, Any]]:
        for image in labels.images:
            images.append(image_record(image))
            kept = [i for i, crowd in enumerate(image.crowds) if not crowd]
            losses.add("crowd regions left out: results have none", len(image.crowds) - len(kept))
            yield from instances_to_results(image.instances[kept], image.id)

    write_results(path, records())
    categories = [{"id": key, "name": name} for key, name in labels.categories.items()]
    content = json.dumps({"images": images, "categories": categories, "annotations": []}, indent=1) + "\n"
    beside = path.with_name("images.json")
    if beside.exists() and beside.read_text(encoding="utf-8") != content:
        raise DataError(f"{beside} is about other images: name an output in another folder")
    write_text(beside, content)
