"""The model that ships: sound, converted faithfully, and as good as its card says, on photos it was not trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from crispmask.coco.dataset import CocoDataset
from crispmask.coco.results import instances_to_results
from crispmask.detectors import EMBEDDED_SHA256, checksum, embedded_model_path, load_detector
from crispmask.detectors.canvas import network_input
from crispmask.errors import ModelError
from crispmask.evaluation import average_precision
from crispmask.image import read_image
from crispmask.runtime import onnx_runtime
from crispmask.samples import sample_images

MEGABYTES = 1e6
PADDING = np.array([123.675, 116.28, 103.53], np.float32)  # of the original, red, green, blue
RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text())


@pytest.fixture(scope="module")
def detector():
    return load_detector()


def test_the_file_is_the_one_that_was_measured():
    assert checksum(embedded_model_path()) == EMBEDDED_SHA256
    assert embedded_model_path().stat().st_size <= 10 * MEGABYTES


def test_its_licences_are_beside_it():
    texts = {path.name: path.read_text() for path in embedded_model_path().parent.glob("*.txt")}
    assert "Apache License" in texts["LICENSE-Apache-2.0.txt"]
    assert "Vladimir Mandic" in texts["LICENSE-MIT.txt"]
    assert "RangiLyu" in texts["NOTICE.txt"]


def test_it_finds_the_astronaut(detector, astronaut):
    found = detector(astronaut)
    assert len(detector.categories) == 80
    assert detector.default_score == 0.45
    assert detector.categories[found.category_ids[0]] == "person"
    assert found.scores[0] > 0.7
    assert (np.diff(found.scores) <= 0).all()
    mask = found.mask(0)
    assert mask[150, 225]  # the face
    assert mask[400, 200]  # the suit
    assert not mask[100, 420]  # the rocket behind
    assert not mask[5, 5]  # the flag


def test_it_finds_the_cat(detector):
    from skimage import data

    found = detector(data.chelsea())
    assert detector.categories[found.category_ids[0]] == "cat"
    assert found.scores[0] > 0.5
    assert found.mask(0)[150, 150]
    assert not found.mask(0)[20, 20]


def test_it_finds_the_people_of_the_samples(detector):
    for path in sample_images()[:2]:
        found = detector(read_image(path)).above(0.5)
        assert "person" in {detector.categories[key] for key in found.category_ids}


@pytest.mark.parametrize("name", RECORDED)
def test_its_boxes_are_those_of_the_original_graph(name):
    """Recorded with record.py; the canvas is the original's, 416 x 416 with its padding."""
    from skimage import data

    photo = getattr(data, name)()
    canvas, (height, width) = network_input(photo[0] if isinstance(photo, tuple) else photo, 416, 416, 32)
    square = np.broadcast_to(PADDING[:, None, None], (1, 3, 416, 416)).copy()
    square[:, :, :height, :width] = canvas[:, :, :height, :width]
    session = onnx_runtime().InferenceSession(str(embedded_model_path()), providers=["CPUExecutionProvider"])
    least = np.array([0.04], np.float32)
    boxes, scores, labels = session.run(["boxes", "scores", "labels"], {"image": square, "least_score": least})
    expected = np.array(RECORDED[name], np.float32)
    expected = expected[expected[:, 0] > 0.06]
    assert len(expected) > 10
    for score, *box, label in expected:
        same = np.flatnonzero(labels == label)
        nearest = same[np.abs(boxes[same] - box).max(1).argmin()]
        assert np.abs(boxes[nearest] - box).max() < 0.5
        assert abs(scores[nearest] - score) < 1e-3


def test_the_same_bits_for_any_number_of_threads(astronaut):
    one, three = (load_detector(threads=threads)(astronaut) for threads in (1, 3))
    np.testing.assert_array_equal(one.scores, three.scores)
    np.testing.assert_array_equal(one.boxes, three.boxes)
    for a, b in zip(one.windows, three.windows, strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)


def test_a_least_score_leaves_the_others_as_they_are(detector, astronaut):
    kept, few = detector(astronaut).above(0.2), load_detector(score=0.2)(astronaut)
    assert 1 < len(kept) == len(few)
    for a, b in zip(kept.windows, few.windows, strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (33, 31), (50, 700)])
def test_any_size_of_photo(detector, shape):
    found = detector(np.full((*shape, 3), 90, np.uint8))
    assert found.image_size == shape


@pytest.mark.parametrize("name", ["yolo", "model.safetensors"])
def test_an_unknown_name_says_what_can_be_given(name):
    with pytest.raises(ModelError, match=r"embedded.*ONNX"):
        load_detector(name)


def test_quality_on_unseen_pedestrians(detector, shared_data):
    """Recorded on all 30 photos: mask AP50 0.9x. A third of them, with a margin for their choice."""
    data = CocoDataset.from_file(shared_data / "penn_fudan/annotations/instances_val.json")
    chosen = list(data.images.values())[::3]
    results = []
    for info in chosen:
        found = detector(read_image(shared_data / "penn_fudan/val" / info.file_name))
        results += instances_to_results(found, info.id)
    assert average_precision(data, results, "segm", image_ids=[info.id for info in chosen])["AP50"] > 0.8
