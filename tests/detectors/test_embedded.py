"""The model that ships: sound, and as good as its card says, on photos that it was not trained on."""

from __future__ import annotations

import numpy as np
import pytest

from crispmask.coco.dataset import CocoDataset
from crispmask.coco.results import instances_to_results
from crispmask.detectors import EMBEDDED_SHA256, checksum, embedded_model_path, load_detector
from crispmask.errors import ModelError
from crispmask.evaluation import average_precision
from crispmask.image import read_image

MEGABYTES = 1e6


@pytest.fixture(scope="module")
def detector():
    return load_detector()


def test_the_file_is_the_one_that_was_measured():
    assert checksum(embedded_model_path()) == EMBEDDED_SHA256
    assert embedded_model_path().stat().st_size <= 30 * MEGABYTES


def test_it_finds_the_astronaut(detector, astronaut):
    found = detector(astronaut)
    assert detector.categories == {1: "person"}
    assert found.scores[0] > 0.8
    assert (np.diff(found.scores) <= 0).all()
    mask = found.mask(0)
    assert mask[150, 225]  # the face
    assert mask[400, 200]  # the suit
    assert not mask[100, 420]  # the rocket behind
    assert not mask[5, 5]  # the flag


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (33, 31), (50, 700)])
def test_any_size_of_photo(detector, shape):
    found = detector(np.full((*shape, 3), 90, np.uint8))
    assert found.image_size == shape


@pytest.mark.parametrize("name", ["yolo", "model.safetensors"])
def test_an_unknown_name_says_what_can_be_given(name):
    with pytest.raises(ModelError, match=r"embedded.*ONNX"):
        load_detector(name)


def test_quality_on_unseen_pedestrians(detector, shared_data):
    """Recorded on all 30 photos: mask AP50 0.97. A third of them, with a margin for their choice."""
    data = CocoDataset.from_file(shared_data / "penn_fudan/annotations/instances_val.json")
    chosen = list(data.images.values())[::3]
    results = []
    for info in chosen:
        found = detector(read_image(shared_data / "penn_fudan/val" / info.file_name))
        results += instances_to_results(found, info.id)
    assert average_precision(data, results, "segm", image_ids=[info.id for info in chosen])["AP50"] > 0.8
