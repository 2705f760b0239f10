"""What the controls of the page do, without a page."""

from __future__ import annotations

import numpy as np
import pytest

from crispmask.app.actions import Actions
from crispmask.app.controls import BY_HAND
from crispmask.detectors import select
from crispmask.instances import Instances
from crispmask.params import CRFParams


class Detector:
    """Finds a person (score 0.9) and a dog (0.4) in every view; counts the views."""

    name, checksum, views = "two", "0" * 64, 0

    def __init__(self) -> None:
        self.categories = {1: "person", 18: "dog"}

    def __call__(self, image: np.ndarray) -> Instances:
        self.views += 1
        masks = np.zeros((2, *image.shape[:2]), bool)
        masks[0, 8:20, 8:20] = masks[1, 8:20, 24:36] = True
        return Instances.from_masks(masks, scores=[0.9, 0.4], category_ids=[1, 18])


@pytest.mark.parametrize(
    ("score", "classes", "labels"),
    [
        (0.3, [], ["1: person 90%", "2: dog 40%"]),
        (0.5, [], ["1: person 90%"]),
        (0.3, ["dog"], ["1: dog 40%"]),
        (0.5, ["dog"], []),
    ],
)
def test_detecting_some_classes_from_a_score_on(score, classes, labels):
    page = Actions(select(Detector()), max_pixels=10_000)
    values = (BY_HAND, *CRFParams(iterations=1).as_dict().values())
    image = np.full((60, 80, 3), 90, np.uint8)
    scene, *_ = page.detect(image, score, classes, False, *values)
    assert scene.labels() == labels


def test_small_objects_are_looked_for_in_tiles():
    detector = Detector()
    page = Actions(select(detector), max_pixels=100_000)
    values = (BY_HAND, *CRFParams(iterations=1).as_dict().values())
    scene, *_ = page.detect(np.full((200, 300, 3), 90, np.uint8), 0.5, [], True, *values)
    assert detector.views == 5
    assert len(scene.before) == 4  # the same place in each of four tiles, one of them also in the whole image
