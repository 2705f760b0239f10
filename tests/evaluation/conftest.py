"""Synthetic COCO sets with everything that evaluation has to get right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as reference


def rle(mask: np.ndarray) -> dict[str, Any]:
    """pycocotools' compressed RLE with a text for JSON."""
    encoded = reference.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(v) for v in encoded["size"]], "counts": encoded["counts"].decode()}


def plain(mask: np.ndarray) -> dict[str, Any]:
    """Plain RLE, counted the slow way."""
    counts, value = [0], False
    for pixel in mask.ravel(order="F"):
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def blob(random: np.random.Generator, height: int, width: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    cy, cx = random.uniform(0, height), random.uniform(0, width)
    angle = np.arctan2(y - cy, x - cx)
    edge = radius * (1 + 0.3 * np.sin(3 * angle + random.uniform(0, 6)))
    return np.hypot(y - cy, x - cx) < edge


@pytest.fixture
def synthetic(tmp_path) -> Callable[[int], tuple[Path, list[dict[str, Any]]]]:
    """Makes, for a seed, an annotation file and results: all sizes, crowds, ties, misses, false alarms."""

    def make(seed: int) -> tuple[Path, list[dict[str, Any]]]:
        random = np.random.default_rng(seed)
        images, annotations, results = [], [], []
        for image_id in range(1, 9):
            height, width = int(random.integers(120, 260)), int(random.integers(120, 260))
            images.append({"id": image_id, "file_name": f"{image_id}.jpg", "height": height, "width": width})
            for _ in range(int(random.integers(0, 8)) if image_id > 1 else 0):
                mask = blob(random, height, width, float(random.choice([6, 11, 25, 60])))
                if not mask.any():
                    continue
                category, crowd = int(random.choice([1, 3, 7])), int(random.random() < 0.1)
                encoded = rle(mask)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": category,
                        "iscrowd": crowd,
                        "area": float(mask.sum()),
                        "bbox": [float(v) for v in reference.toBbox(encoded)],
                        "segmentation": plain(mask) if crowd else encoded,
                    }
                )
                if random.random() < 0.8:
                    moved = np.roll(mask, random.integers(-4, 5, 2), (0, 1))
                    results.append(detection(random, image_id, category, moved))
            for _ in range(int(random.integers(0, 4))):
                mask = blob(random, height, width, 20)
                if mask.any():
                    results.append(detection(random, image_id, int(random.choice([1, 3, 7])), mask))
        categories = [{"id": k, "name": n} for k, n in ((1, "person"), (3, "car"), (7, "train"), (9, "never seen"))]
        path = tmp_path / f"annotations_{seed}.json"
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
        return path, results

    return make


def detection(random: np.random.Generator, image_id: int, category: int, mask: np.ndarray) -> dict[str, Any]:
    encoded = rle(mask)
    return {
        "image_id": image_id,
        "category_id": category,
        "score": round(float(random.random()), 1),  # rounded to force ties
        "bbox": [float(v) for v in reference.toBbox(encoded)],
        "segmentation": encoded,
    }


@pytest.fixture(scope="session")
def cheap() -> Callable[[int], tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Makes, for a seed, a tiny annotation file's content and results that are hard on an evaluator.

    Crowds, equal scores, objects that share a place, areas on the edges of the size classes, categories that only one
    side knows or that nobody uses, images without anything; sometimes no object or no detection at all.
    """

    def make(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        random = np.random.default_rng(seed)
        images = [{"id": k, "file_name": f"{k}.jpg", "height": 120, "width": 130} for k in (3, 8, 9, 40)]
        annotations: list[dict[str, Any]] = []
        results: list[dict[str, Any]] = []
        places = [_place(random) for _ in range(5)]
        spots = [(int(random.choice([3, 8, 9])), int(random.choice([1, 2, 5])), int(random.integers(5)))]
        spots *= int(random.integers(1, 3))  # two objects in one place, now and then
        spots += [(int(random.choice([3, 8, 9])), int(random.choice([1, 2, 5])), k % 5) for k in range(7)]
        for image_id, category, k in spots if random.random() < 0.95 else []:
            mask = _rectangle(places[k], random)
            encoded = rle(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "iscrowd": int(random.random() < 0.15),
                    "area": float(random.choice([mask.sum(), 32**2, 96**2])),
                    "bbox": [float(v) for v in reference.toBbox(encoded)],
                    "segmentation": encoded,
                }
            )
        for image_id, category, k in spots * 2 if random.random() < 0.95 else []:
            if random.random() < 0.2:
                image_id, category = int(random.choice([3, 8, 9])), int(random.choice([1, 2, 7]))
            made = detection(random, image_id, category, _rectangle(places[k], random))
            results.append({**made, "score": float(random.choice([0.2, 0.5, 0.9]))})
        categories = [{"id": k, "name": f"c{k}"} for k in (1, 2, 5, 6)]
        return {"images": images, "annotations": annotations, "categories": categories}, results

    return make


def _place(random: np.random.Generator) -> tuple[int, int, int, int]:
    side = int(random.choice([8, 32, 50, 96]))
    return int(random.integers(0, 20)), int(random.integers(0, 30)), side, side


def _rectangle(place: tuple[int, int, int, int], random: np.random.Generator) -> np.ndarray:
    y, x, h, w = (np.array(place) + random.integers(-2, 3, 4)).clip(0).tolist()
    mask = np.zeros((120, 130), bool)
    mask[y : y + max(h, 1), x : x + max(w, 1)] = True
    return mask
