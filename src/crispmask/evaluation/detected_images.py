"""Detections in the images of a data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.coco.dataset import CocoDataset
from crispmask.coco.images import ImageFolder
from crispmask.coco.results import results_to_instances
from crispmask.coco.rle import segmentation_to_rle
from crispmask.errors import DataError
from crispmask.files import relative_parts
from crispmask.instances import Instances


class DetectedImages:
    """COCO results, checked and sorted by image.

    Args:
        dataset: says which image is which file, and of what size.
        results: COCO results, checked by `crispmask.coco.read_results`; they are not changed.
        folder: that the data set's file names are relative to.
        score: detections below it are left out.
        source: what the results are called in errors.

    Attributes:
        records: the detections that count, in the order of the results, masks as compressed RLE. Those in categories
            that the data set does not have are left out.

    Raises:
        DataError: an image that the data set does not have, a segmentation that breaks the format, a folder that is
            not there, or a file name that leaves it.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        results: Sequence[Mapping[str, Any]],
        folder: str | Path,
        *,
        score: float = 0.0,
        source: str = "results",
    ) -> None:
        self.dataset, self._files = dataset, ImageFolder(Path(folder), dataset)
        self.records: list[Mapping[str, Any]] = []
        for k, record in enumerate(results):
            if record["image_id"] not in dataset.images:
                raise DataError(f"{source}: result {k}: {dataset.path} has no image with the id {record['image_id']!r}")
            if record["score"] < score or record["category_id"] not in dataset.categories:
                continue
            try:
                rle = segmentation_to_rle(record.get("segmentation"), *dataset.images[record["image_id"]].size)
            except DataError as error:
                raise DataError(f"{source}: result {k}: {error}") from None
            self.records.append({**record, "segmentation": rle})
        for image in dataset.images.values():
            try:
                relative_parts(image.file_name)
            except DataError as error:
                raise DataError(f"{dataset.path}: {error}") from None

    def by_image(self) -> dict[int, list[int]]:
        """Numbers of the records of each image that has some, by its id in ascending order."""
        found: dict[int, list[int]] = defaultdict(list)
        for k, record in enumerate(self.records):
            found[record["image_id"]].append(k)
        return {key: found[key] for key in sorted(found)}

    def read(self, image_id: int) -> NDArray[np.uint8]:
        """The pixels of an image, uint8 (H, W, 3) RGB. Raises what `ImageFolder.read` raises."""
        return self._files.read(image_id)

    def instances(self, image_id: int, numbers: Sequence[int]) -> Instances:
        """Records of an image as instances.

        Raises:
            DataError: a record that breaks the format.
        """
        chosen = [self.records[k] for k in numbers]
        return results_to_instances(chosen, *self.dataset.images[image_id].size)
