from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crispmask.coco import instances_to_results
from crispmask.instances import Instances

PHOTOS = 30


@dataclass(frozen=True)
class World:
    """Annotated photos, and what a detector found on them."""

    annotations: Path
    images: Path
    results: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    """Photos of one disc each. In those with an odd id it is bright on dark, and the detector's mask is two pixels off.

    In the others it cannot be told from the ground, the detector's mask is right, and a faint shadow lies beside it.
    """
    root = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(1)
    images, annotations, results = [], [], []
    y, x = np.mgrid[:80, :80]
    for k in range(1, PHOTOS + 1):
        radius = rng.uniform(14, 22)
        truth = (y - 40) ** 2 + (x - 40) ** 2 < radius**2
        seen, colour = (truth, (200, 170, 70)) if k % 2 else (np.roll(truth, -5, 0), (74, 84, 124))
        photo = np.where(seen[..., None], colour, (60, 70, 110)) + rng.normal(0, 3, (80, 80, 3))
        Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)).save(root / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "height": 80, "width": 80})
        exact = Instances.from_masks(truth)
        record = instances_to_results(exact, k)[0]
        annotations.append({**record, "id": k, "iscrowd": 0, "area": float(truth.sum())})
        found = np.roll(truth, 2, 1) if k % 2 else truth
        results += instances_to_results(Instances.from_masks(found, scores=[rng.uniform(0.5, 1)]), k)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "disc"}]}
    (root / "gt.json").write_text(json.dumps(content))
    (root / "dt.json").write_text(json.dumps(results))
    return World(root / "gt.json", root, root / "dt.json")
