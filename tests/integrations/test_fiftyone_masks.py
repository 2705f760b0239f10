"""Where masks of FiftyOne's detections lie, on objects of its documented attributes; test_fiftyone.py has itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crispmask import CRFParams, Instances, refine
from crispmask.errors import DataError, ParamsError
from crispmask.image import read_image
from crispmask.integrations import refine_fiftyone

SIZE = (48, 70)


class Detection:
    def __init__(self, box: Any, mask: Any = None, confidence: float | None = None) -> None:
        self.bounding_box, self.mask, self.mask_path, self.confidence = box, mask, None, confidence

    @property
    def has_mask(self) -> bool:
        return self.mask is not None

    def get_mask(self) -> Any:
        return self.mask

    def copy(self) -> Detection:
        return copy.copy(self)

    def drawn(self) -> np.ndarray:
        """The mask on the image, where its size is that of its box in pixels, which FiftyOne cuts off."""
        x, y, w, h = self.bounding_box
        x0, y0 = int(SIZE[1] * x), int(SIZE[0] * y)
        x1, y1 = int(SIZE[1] * (x + w)), int(SIZE[0] * (y + h))
        full = np.zeros(SIZE, bool)
        full[y0:y1, x0:x1] = self.mask
        return full


class Detections(Detection):
    def __init__(self, *detections: Detection) -> None:
        self.detections = list(detections)


class Sample(dict):
    id, filepath = "5f", ""


class Samples:
    media_type = "image"

    def __init__(self, path: str, *detections: Detection) -> None:
        self.sample = Sample(found=Detections(*detections))
        self.sample.filepath = path

    def get_field(self, name: str) -> Any:
        return type("Field", (), {"document_type": Detections if name == "found" else None})

    def iter_samples(self, autosave: bool, progress: bool) -> Iterator[Sample]:
        assert autosave
        yield self.sample


@pytest.fixture
def disc(tmp_path) -> tuple[str, np.ndarray]:
    """A photo of a bright disc, and its mask."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    mask = (y - 22) ** 2 + (x - 30) ** 2 < 14**2
    photo = np.random.default_rng(0).integers(50, 70, (*SIZE, 3)).astype(np.uint8)
    photo[mask] += 120
    Image.fromarray(photo).save(tmp_path / "disc.png")
    return str(tmp_path / "disc.png"), mask


def expected(path: str, mask: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
    """What `refine` makes of the whole mask."""
    return refine(read_image(path), Instances.from_masks(mask, boxes=[box]), CRFParams()).mask(0)


def inside(mask: np.ndarray, box: tuple[int, int, int, int]) -> tuple[list[float], np.ndarray]:
    x0, y0, x1, y1 = box
    share = [x0 / SIZE[1], y0 / SIZE[0], (x1 - x0) / SIZE[1], (y1 - y0) / SIZE[0]]
    return share, mask[y0:y1, x0:x1]


def refined(path: str, detection: Detection) -> Detection:
    samples = Samples(path, detection)
    assert refine_fiftyone(samples, "found", "refined", CRFParams()) == 1
    (made,) = samples.sample["refined"].detections
    assert samples.sample["found"].detections == [detection]
    return made


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_masks_are_refined_where_they_are(disc, kind):
    path, mask = disc
    shifted, box = np.roll(mask, 1, 1), (15, 5, 55, 45)
    share, inner = inside(shifted, box)
    given = inner.astype(kind)
    made = refined(path, Detection(share, given))
    assert np.array_equal(made.drawn(), expected(path, shifted, box))
    assert not np.array_equal(made.drawn(), shifted)
    assert made.mask.dtype == bool
    assert made.mask.any(axis=0).all()
    assert made.mask.any(axis=1).all()
    assert np.array_equal(given, inner)


def test_masks_of_another_size_fill_their_box(disc):
    path, mask = disc
    box = (10, 4, 50, 44)
    share, inner = inside(mask, box)
    made = refined(path, Detection(share, inner.repeat(3, 0).repeat(3, 1)))
    assert np.array_equal(made.drawn(), expected(path, mask, box))


@pytest.mark.parametrize("shift", [-0.45, -0.2, 0.2, 0.45])
def test_corners_between_pixels(disc, shift):
    """As FiftyOne reads COCO's annotations: boxes are not whole, masks are cut at their rounded corners."""
    path, mask = disc
    share, inner = inside(mask, (10, 4, 50, 44))
    moved = [share[0] + shift / SIZE[1], share[1] + shift / SIZE[0], *share[2:]]
    box = (10 + shift, 4 + shift, 50 + shift, 44 + shift)
    assert np.array_equal(refined(path, Detection(moved, inner)).drawn(), expected(path, mask, box))


def test_boxes_beyond_the_image_are_cut(disc):
    path, mask = disc
    wide = np.zeros((88, 110), bool)
    wide[20:68, 20:90] = mask
    share = [-20 / SIZE[1], -20 / SIZE[0], 110 / SIZE[1], 88 / SIZE[0]]
    made = refined(path, Detection(share, wide))
    assert np.array_equal(made.drawn(), expected(path, mask, (0, 0, SIZE[1], SIZE[0])))


@pytest.mark.parametrize(
    ("detection", "reason"),
    [
        (Detection(None), "bounding box of 4 numbers"),
        (Detection([0, 0, 1]), "bounding box of 4 numbers"),
        (Detection([0, 0, "1", 1]), "a bounding box must be a number"),
        (Detection([0, 0, float("nan"), 1]), "a bounding box must be a finite number"),
        (Detection([0, 0, 1, 1], np.ones((2, 2, 3))), r"shape \(h, w\)"),
        (Detection([0, 0, 1, 1], np.ones((0, 2))), r"shape \(h, w\)"),
        (Detection([0.1, 0.1, 0.001, 0.001], np.ones((1, 1))), "less than one pixel"),
        (Detection([1.5, 0.1, 0.5, 0.5], np.ones((4, 4))), "outside the image"),
        (Detection([0, 0, 1, 1], np.ones((4, 4)), 1.5), "a confidence must be at most 1"),
    ],
)
def test_damaged_detections_are_refused(disc, detection, reason):
    with pytest.raises(DataError, match=f"sample 5f: .*{reason}"):
        refine_fiftyone(Samples(disc[0], detection), "found", "refined")


def test_boxes_need_learned_parameters(disc):
    with pytest.raises(ParamsError, match="fixed parameters"):
        refine_fiftyone(Samples(disc[0], Detection([0.1, 0.1, 0.5, 0.5])), "found", "refined", CRFParams())
