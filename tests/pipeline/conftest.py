"""A detector without a model, and folders of small images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crispmask.instances import Instances, Window


class BlobDetector:
    """Finds a soft blob in the middle of every image, and an unsure one of another category in its corner.

    `before_call` is called with the number of each call, from 1.
    """

    name, checksum = "blob", "0" * 64

    def __init__(self, before_call: Callable[[int], None] = lambda k: None) -> None:
        self.before_call, self.calls = before_call, 0
        self.categories = {1: "person", 7: "train"}

    def __call__(self, image: np.ndarray) -> Instances:
        self.calls += 1
        self.before_call(self.calls)
        height, width = image.shape[:2]
        y, x = np.mgrid[: height // 2, : width // 2]
        blob = np.exp(-(((y / (height / 2) - 0.5) / 0.3) ** 2 + ((x / (width / 2) - 0.5) / 0.3) ** 2))
        top, left = height // 4, width // 4
        corner = np.full((height // 4, width // 4), 0.9)
        return Instances(
            (height, width),
            np.array([[left, top, left + width // 2, top + height // 2], [0, 0, width // 4, height // 4]]),
            np.array([0.9, 0.6]),
            np.array([1, 7]),
            (Window(blob, top, left), Window(corner, 0, 0)),
        )


@pytest.fixture
def blob_detector() -> type[BlobDetector]:
    return BlobDetector


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folder `photos` with six images of a bright disc on noise, two of them in sub-folders."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for k, name in enumerate(("b.png", "a.jpg", "sub/a.jpg", "sub/deep/c.png", "d.webp", "e.png")):
        height, width = 40 + 4 * k, 56
        y, x = np.mgrid[:height, :width]
        disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 4) ** 2
        image = rng.integers(0, 90, (height, width, 3)) + 150 * disc[..., None]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def image() -> np.ndarray:
    """A bright disc on noise, uint8 (60, 80, 3)."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:60, :80]
    disc = (y - 30) ** 2 + (x - 40) ** 2 < 15**2
    return (rng.integers(0, 60, (60, 80, 3)) + 150 * disc[..., None]).astype(np.uint8)
