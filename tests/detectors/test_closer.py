"""The second view from which small objects are taken."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crispmask.detectors import load_detector
from crispmask.detectors.closer import EITHER, SMALL, with_small
from crispmask.detectors.onnx import OnnxDetector
from crispmask.instances import Instances

SIZE = (300, 400)
LIMIT = SMALL * 400


def found(*sides: float, score: float, left: float = 10, category: int = 1) -> Instances:
    """Squares with these sides, in a row."""
    masks, boxes = np.zeros((len(sides), *SIZE), bool), []
    for k, side in enumerate(sides):
        x0, y0 = left, 10 + 70 * k
        boxes.append((x0, y0, x0 + side, y0 + side))
        masks[k, y0 : y0 + int(side), int(x0) : int(x0 + side)] = True
    kinds = np.full(len(sides), category)
    return Instances.from_masks(
        masks, boxes=np.array(boxes, np.float32), scores=[score] * len(sides), category_ids=kinds
    )


def test_large_objects_are_those_of_the_whole_image_and_small_ones_those_of_the_larger_view():
    large, small, tiny = EITHER * LIMIT + 4, LIMIT / EITHER - 4, 6
    both = with_small(found(large, small, score=0.5), found(large, small, tiny, score=0.7))
    sides = np.sqrt((both.boxes[:, 2] - both.boxes[:, 0]) * (both.boxes[:, 3] - both.boxes[:, 1]))
    assert sorted(zip(sides.tolist(), both.scores.tolist(), strict=True)) == [
        (tiny, pytest.approx(0.7)),
        (pytest.approx(small), pytest.approx(0.7)),
        (pytest.approx(large), pytest.approx(0.5)),
    ]
    assert (np.diff(both.scores) <= 0).all()


def test_objects_between_are_taken_from_both_and_each_once():
    one = with_small(found(LIMIT, score=0.5), found(LIMIT, score=0.7, left=14))
    assert one.scores.tolist() == [pytest.approx(0.7)]
    assert len(with_small(found(LIMIT, score=0.5), found(LIMIT, score=0.7, left=200))) == 2
    assert len(with_small(found(LIMIT, score=0.5), found(LIMIT, score=0.7, category=2))) == 2


@pytest.fixture
def views(monkeypatch) -> list[tuple[int, int]]:
    """Sizes of the canvases that the embedded detector sees."""
    sizes: list[tuple[int, int]] = []
    run = OnnxDetector._run

    def noted(self: OnnxDetector, padded: np.ndarray) -> list[np.ndarray]:
        sizes.append((padded.shape[2], padded.shape[3]))
        return run(self, padded)

    monkeypatch.setattr(OnnxDetector, "_run", noted)
    return sizes


def test_the_embedded_detector_looks_twice_and_with_tiles_once_at_each(views, astronaut):
    load_detector(score=0.5)(astronaut)
    assert views == [(416, 416), (576, 576)]
    views.clear()
    load_detector(score=0.5, tiles=2)(astronaut)
    assert views == [(416, 416)] * 5


def test_it_knows_a_small_object_that_one_view_does_not(astronaut):
    """A photo of a person on grey, a sixteenth of its side."""
    canvas = np.full((1000, 1000, 3), 128, np.uint8)
    canvas[850:910, 40:100] = np.asarray(Image.fromarray(astronaut).resize((60, 60)))
    detector = load_detector()
    for look, known in ((detector, True), (detector.detector.one_view(), False)):
        seen = look(canvas).above(0.4)
        centres = (seen.boxes[:, :2] + seen.boxes[:, 2:]) / 2
        there = (np.abs(centres - [70, 880]) < 30).all(1) & (seen.category_ids == 1)
        assert there.any() == known
