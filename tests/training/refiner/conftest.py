from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crispmask.coco import instances_to_results
from crispmask.instances import Instances
from crispmask.training.refiner import batches, resident
from crispmask.training.refiner.objects import AnnotatedObject, Source, read_objects

IMAGES = 12


@dataclass(frozen=True)
class World:
    """Annotated images, and what a detector found on them."""

    annotations: Path
    images: Path
    results: Path

    @property
    def source(self) -> Source:
        return Source(self.annotations, self.images, self.results)

    @property
    def objects(self) -> list[AnnotatedObject]:
        return read_objects([self.source])


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    """Images of a yellow disc and a small one on blue; the detector's masks of the larger are two pixels off."""
    root = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(1)
    images, annotations, results = [], [], []
    y, x = np.mgrid[:80, :90]
    for k in range(1, IMAGES + 1):
        discs = [(y - 40) ** 2 + (x - 36) ** 2 < rng.uniform(18, 26) ** 2, (y - 40) ** 2 + (x - 76) ** 2 < 10**2]
        image = np.where((discs[0] | discs[1])[..., None], (200, 170, 70), (60, 70, 110)) + rng.normal(
            0, 3, (80, 90, 3)
        )
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(root / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "height": 80, "width": 90})
        for disc in discs:
            record = instances_to_results(Instances.from_masks(disc), k)[0]
            annotations.append({**record, "id": len(annotations) + 1, "iscrowd": 0, "area": float(disc.sum())})
        found = Instances.from_masks(np.roll(discs[0], 2, 1), scores=[rng.uniform(0.5, 1)])
        results += instances_to_results(found, k)
    annotations.append({**annotations[-1], "id": 999, "iscrowd": 1})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "disc"}]}
    (root / "gt.json").write_text(json.dumps(content))
    (root / "dt.json").write_text(json.dumps(results))
    return World(root / "gt.json", root, root / "dt.json")


@pytest.fixture
def small_crops(monkeypatch) -> None:
    """Training on crops of 64 cells, which are quick."""
    for module in (batches, resident):
        monkeypatch.setattr(module, "SIZES", (64,))
        monkeypatch.setattr(module, "SIZE_CHANCES", (1.0,))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
