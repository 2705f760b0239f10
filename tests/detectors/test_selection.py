from __future__ import annotations

import numpy as np
import pytest

from crispmask.detectors import load_detector, select
from crispmask.detectors.base import default_score
from crispmask.detectors.selection import find_classes
from crispmask.errors import ParamsError
from crispmask.instances import Instances
from crispmask.params import DEFAULT_SCORE

IMAGE = np.zeros((40, 60, 3), np.uint8)
COCO = {1: "person", 2: "bicycle", 10: "traffic light", 17: "cat", 18: "dog", 22: "elephant", 88: "teddy bear"}
MANY = {**COCO, **{100 + k: f"thing {k}" for k in range(73)}}


class Three:
    """Finds a person, a cat and a dog in every image."""

    name, checksum, categories = "three", "0" * 64, COCO

    def __call__(self, image: np.ndarray) -> Instances:
        masks = np.zeros((3, *image.shape[:2]), bool)
        for k in range(3):
            masks[k, 5:15, 5 + 20 * k : 15 + 20 * k] = True
        return Instances.from_masks(masks, scores=[0.9, 0.6, 0.3], category_ids=[1, 17, 18])


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ("person,dog", [1, 18]),
        ("Dog, PERSON", [1, 18]),
        ("traffic light", [10]),
        ("18,1", [1, 18]),
        (["cat", 18], [17, 18]),
        ("dog,18,dog", [18]),
    ],
)
def test_classes_by_name_or_id(wanted, ids):
    assert list(find_classes(COCO, wanted)) == ids


def test_a_name_that_is_a_number_counts_as_a_name():
    assert list(find_classes({1: "2", 2: "1"}, "2")) == [1]


@pytest.mark.parametrize(
    ("categories", "wanted", "sentence"),
    [
        (MANY, "elefant", "no class 'elefant': did you mean 'elephant'?"),
        (MANY, "elefant", "It finds 80 classes, which 'crispmask models classes' lists"),
        (MANY, "person,3", "no class '3'"),
        (COCO, "wolf", "no class 'wolf': It finds person, bicycle, traffic light, cat, dog, elephant, teddy bear"),
        (COCO, " , ", "no class is named"),
        (COCO, [], "no class is named"),
    ],
)
def test_classes_that_are_not_there(categories, wanted, sentence):
    with pytest.raises(ParamsError) as caught:
        find_classes(categories, wanted)
    assert sentence in str(caught.value)


def test_a_selection_gives_what_is_wanted():
    detector = Three()
    assert select(detector)(IMAGE).category_ids.tolist() == [1, 17, 18]
    chosen = select(detector, score=0.5, classes="dog,cat")
    assert chosen(IMAGE).category_ids.tolist() == [17]
    assert [found.category_ids.tolist() for found in chosen.batch([IMAGE, IMAGE])] == [[17], [17]]
    assert chosen.categories == {17: "cat", 18: "dog"}
    assert (chosen.name, chosen.checksum, chosen.classes) == ("three", "0" * 64, ("cat", "dog"))


def test_a_selection_of_a_selection_replaces_what_is_given():
    first = select(Three(), score=0.5, classes="dog", tiles=2)
    later = select(first, classes="person")
    assert (later.score, later.classes, later.tiles) == (0.5, ("person",), 2)
    lower = select(first, score=0.1, tiles=1)
    assert lower(IMAGE).category_ids.tolist() == [18]
    assert first(IMAGE).category_ids.tolist() == []


def test_the_detector_says_which_score_is_the_default():
    class Careful(Three):
        default_score = 0.85

    assert default_score(Three()) == select(Three()).default_score == DEFAULT_SCORE
    assert default_score(Careful()) == select(Careful()).default_score == 0.85
    assert select(Careful(), score=0.2).default_score == 0.2


def test_a_detector_that_saves_time_is_told_the_score():
    class Thrifty(Three):
        least = 0.0

        def at_least(self, score: float) -> Thrifty:
            made = Thrifty()
            made.least = score
            return made

        def __call__(self, image: np.ndarray) -> Instances:
            calls.append(self.least)
            return super().__call__(image)

    calls: list[float] = []
    select(select(Thrifty(), score=0.8), score=0.2)(IMAGE)
    select(Thrifty())(IMAGE)
    assert calls == [0.2, 0.0]


@pytest.mark.parametrize(
    "options",
    [{"score": 1.5}, {"score": float("nan")}, {"tiles": 0}, {"tiles": 17}, {"tiles": 1.5}, {"classes": "cow"}],
)
def test_what_is_refused(options):
    with pytest.raises(ParamsError):
        select(Three(), **options)


def test_load_detector_takes_them(astronaut):
    everything = load_detector()(astronaut)
    chosen = load_detector(score=0.5, classes="person", tiles=2)
    assert (chosen.score, chosen.classes, chosen.tiles) == (0.5, ("person",), 2)
    assert len(chosen(astronaut)) >= 1
    assert everything.scores.min() < 0.5 <= chosen(astronaut).scores.min()
