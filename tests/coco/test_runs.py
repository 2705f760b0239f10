"""Run lengths of many masks at once, against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as reference

from crispmask.coco.runs import MaskRuns, decode_counts
from crispmask.errors import DataError


def masks(seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    made = [random.random((h, w)) < random.random() for h, w in random.integers(1, 40, (20, 2))]
    return [*made, np.zeros((5, 4), bool), np.ones((5, 4), bool), np.ones((300, 400), bool)]


def counts(mask: np.ndarray) -> bytes:
    return reference.encode(np.asfortranarray(mask, np.uint8))["counts"]


def shapes(made: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.array([mask.shape for mask in made])
    return sizes[:, 0], sizes[:, 1]


@pytest.mark.parametrize("seed", range(5))
def test_runs_of_all_masks_at_once(seed):
    made = masks(seed)
    runs, first = decode_counts([counts(mask) for mask in made])
    for k, mask in enumerate(made):
        flat = np.repeat(np.arange(first[k + 1] - first[k]) % 2 == 1, runs[first[k] : first[k + 1]])
        assert np.array_equal(flat, mask.ravel(order="F"))


@pytest.mark.parametrize("seed", range(5))
def test_from_counts_and_from_masks_agree(seed):
    made = masks(seed)
    one, other = MaskRuns.from_counts([counts(mask) for mask in made], *shapes(made)), MaskRuns.from_masks(made)
    for name in ("starts", "ends", "first", "count", "area", "heights", "widths"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.area.tolist() == [mask.sum() for mask in made]


def test_runs_with_nothing_between_them_are_one():
    # 1 background, 2 foreground, 0 background, 3 foreground, 0 background, 0 foreground, 4 background
    text = reference.frPyObjects({"size": [2, 5], "counts": [1, 2, 0, 3, 0, 0, 4]}, 2, 5)["counts"]
    runs = MaskRuns.from_counts([text, text], np.array([2, 2]), np.array([5, 5]))
    assert (runs.starts.tolist(), runs.ends.tolist()) == ([1, 1], [6, 6])
    assert runs.count.tolist() == [1, 1]


def test_no_masks():
    empty = np.zeros(0, np.int64)
    assert len(MaskRuns.from_counts([], empty, empty)) == 0
    assert len(MaskRuns.from_masks([])) == 0


@pytest.mark.parametrize(
    ("text", "words"), [(b"Z\x10", "do not belong"), (b"oo", "cut short"), (b"oooooooo0", "longer than any image")]
)
def test_damaged_counts(text, words):
    with pytest.raises(DataError, match=words):
        decode_counts([counts(np.ones((3, 4), bool)), text, b""])


def test_counts_of_another_image():
    with pytest.raises(DataError, match="does not cover its image"):
        MaskRuns.from_counts([counts(np.ones((3, 4), bool))], np.array([3]), np.array([5]))
