"""COCO results: a JSON list of detections. ``images.json`` beside it has the names of images and categories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crispmask.coco import CocoDataset, instances_to_results, read_results, results_to_instances, write_results
from crispmask.coco.results import check_mask, images_file_beside
from crispmask.errors import DataError
from crispmask.files import write_text
from crispmask.formats.coco import image_record
from crispmask.formats.labels import Hints, LabelledImage, Labels, Losses, Style


def read(path: Path, hints: Hints, losses: Losses) -> Labels:
    """Detections of every image of the data set, or of ``images.json``."""
    dataset = hints.dataset
    if dataset is None:
        beside = images_file_beside(path)
        if beside is None:
            raise DataError(f"{path} does not name its images: add --annotations GT.json")
        dataset = CocoDataset.from_file(beside, annotations=False)
    by_image: dict[int, list[dict[str, Any]]] = {key: [] for key in dataset.images}
    for k, record in enumerate(read_results(path)):
        where, image_id, category = f"{path}: result {k}", int(record["image_id"]), int(record["category_id"])
        if image_id not in by_image:
            raise DataError(f"{where}: there is no image with the id {image_id} in {dataset.path}")
        if category not in dataset.categories:
            raise DataError(f"{where}: there is no category with the id {category} in {dataset.path}")
        check_mask(record, where, dataset.images[image_id].size)
        by_image[image_id].append(record)

    def images() -> Iterator[LabelledImage]:
        for key, image in dataset.images.items():
            found = results_to_instances(by_image[key], *image.size)
            yield LabelledImage(key, image.file_name, found, (False,) * len(found))

    return Labels(dataset.categories, images())


def write(labels: Labels, path: Path, style: Style, losses: Losses) -> None:
    """Masks as run lengths: pycocotools accepts nothing else in results."""
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
        raise DataError(f"{beside} lists other images: choose an output in another folder")
    write_text(beside, content)
