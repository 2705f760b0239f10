"""Mask AP of the network during training, on images that it is not trained on."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.models.detection import MaskRCNN

from crispmask.coco.dataset import CocoDataset
from crispmask.coco.results import instances_to_results
from crispmask.detectors.canvas import detect
from crispmask.errors import DataError
from crispmask.evaluation.metrics import average_precision
from crispmask.image import read_image
from crispmask.training.detector.inference import SIZE_DIVISOR, InferenceNetwork, keep_classes


@dataclass(frozen=True)
class Validation:
    """Annotated images to evaluate on, and the classes that are evaluated.

    Attributes:
        dataset: the annotations.
        folder: of the images.
        labels: label of the network by category id of the data set.
    """

    dataset: CocoDataset
    folder: Path
    labels: dict[int, int]

    @classmethod
    def read(cls, annotations: Path, folder: Path, names: list[str], focus: list[str] | None = None) -> Validation:
        """Read an annotation file.

        Args:
            annotations: COCO annotation file.
            folder: of its images.
            names: the network's classes; label k is ``names[k - 1]``.
            focus: the classes that are evaluated; None means all.

        Raises:
            DataError: a file that breaks the format, missing images, or no object of the classes that are evaluated.
        """
        dataset = CocoDataset.from_file(annotations)
        wanted = {name: names.index(name) + 1 for name in focus or names if name in names}
        labels = {key: wanted[name] for key, name in dataset.categories.items() if name in wanted}
        missing = [
            folder / info.file_name for info in dataset.images.values() if not (folder / info.file_name).is_file()
        ]
        if missing:
            raise DataError(f"{missing[0]} does not exist ({len(missing)} images of {annotations} are missing)")
        if not any(
            a["category_id"] in labels and not a["iscrowd"] for found in dataset.annotations.values() for a in found
        ):
            raise DataError(
                f"{annotations} has no object of {', '.join(wanted) or 'the trained classes'} to validate on"
            )
        return cls(dataset, folder, labels)

    def detections(self, model: MaskRCNN, images: Iterable[int], device: torch.device) -> list[dict[str, Any]]:
        """COCO results of a network on some images, which are scaled and padded as for the exported file.

        Args:
            model: on `device`; it is not changed.
            images: ids.
            device: torch device.
        """
        model = copy.deepcopy(model)
        keep_classes(model, list(self.labels.values()))
        network = InferenceNetwork(model).eval().to(device)
        min_size, max_size = model.transform.min_size[-1], model.transform.max_size

        def run(canvas: np.ndarray) -> list[np.ndarray]:
            with torch.inference_mode():
                return [part.cpu().numpy() for part in network(torch.from_numpy(canvas).to(device))]

        ids = np.array([0, *self.labels], np.int64)
        results = []
        for key in images:
            image = read_image(self.folder / self.dataset.images[key].file_name)
            results += instances_to_results(detect(image, run, ids, min_size, max_size, SIZE_DIVISOR), key)
        return results

    def score(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """``AP``, ``AP50`` and ``AP75`` of the masks, fractions in [0, 1]."""
        found = average_precision(
            self.dataset, results, "segm", category_ids=self.labels, source="the network's detections"
        )
        return {name: found[name] for name in ("AP", "AP50", "AP75")}
