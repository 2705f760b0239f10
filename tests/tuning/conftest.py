"""A data set of bright discs on noise, and detections that are a few pixels off."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crispmask.coco import CocoDataset, mask_to_rle, read_results
from crispmask.tuning.task import TuningTask


@dataclass(frozen=True)
class Files:
    """Where everything is."""

    annotations: Path
    results: Path
    images: Path

    def task(self, **options: Any) -> TuningTask:
        dataset, results = CocoDataset.from_file(self.annotations), read_results(self.results)
        return TuningTask(dataset, results, self.images, **options)


@pytest.fixture(scope="session")
def make_files() -> Callable[..., Files]:
    def make(folder: Path, count: int = 6) -> Files:
        rng = np.random.default_rng(3)
        (folder / "images").mkdir(parents=True)
        images, annotations, results = [], [], []
        for k in range(1, count + 1):
            y, x = np.mgrid[:48, :64]
            image = rng.integers(0, 90, (48, 64, 3))
            for column in (16, 46)[: 1 + k % 2]:
                truth = (y - 24) ** 2 + (x - column) ** 2 < (8 + k) ** 2
                image[truth] += 120
                shared = {"image_id": k, "category_id": 1}
                annotations.append({"id": len(annotations) + 1, **shared, "segmentation": mask_to_rle(truth)})
                found = np.roll(truth, (2, int(rng.integers(1, 4))), (0, 1))
                score = round(float(rng.random()), 3)
                results.append({**shared, "segmentation": mask_to_rle(found), "score": score})
            # An unsure detection of nothing.
            nothing = (y < 6) & (x < 6)
            results.append({"image_id": k, "category_id": 1, "segmentation": mask_to_rle(nothing), "score": 0.1})
            Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{k}.png")
            images.append({"id": k, "file_name": f"{k}.png", "height": 48, "width": 64})
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "disc"}]}
        (folder / "truth.json").write_text(json.dumps(content))
        (folder / "results.json").write_text(json.dumps(results))
        return Files(folder / "truth.json", folder / "results.json", folder / "images")

    return make


@pytest.fixture(scope="session")
def files(make_files, tmp_path_factory) -> Files:
    return make_files(tmp_path_factory.mktemp("discs") / "data")
