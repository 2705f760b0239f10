from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crispmask.errors import ShapeError, ValueRangeError
from crispmask.instances import Instances, Window, tight_box


def test_masks_survive(tricky_masks):
    masks = np.stack(list(tricky_masks.values()))
    instances = Instances.from_masks(masks)
    assert (instances.masks() == masks).all()
    for i, mask in enumerate(masks):
        assert (instances.mask(i) == mask).all()
        assert instances.probability(i).dtype == np.float32


def test_windows_are_as_small_as_the_masks(tricky_masks):
    mask = tricky_masks["one pixel"]
    (window,) = Instances.from_masks(mask).windows
    assert (window.y, window.x, window.height, window.width) == (17, 31, 1, 1)


def test_boxes_are_half_open(tricky_masks):
    masks = tricky_masks
    instances = Instances.from_masks(np.stack([masks["one pixel"], masks["full"], masks["holes"]]))
    assert instances.boxes.tolist() == [[31, 17, 32, 18], [0, 0, 53, 37], [8, 5, 40, 25]]


def test_empty_mask_keeps_its_place():
    masks = np.zeros((2, 9, 7), bool)
    masks[1, 3, 4] = True
    instances = Instances.from_masks(masks)
    assert len(instances) == 2
    assert instances.boxes[0].tolist() == [0, 0, 0, 0]
    assert (instances.masks() == masks).all()


def test_empty_set():
    for instances in (Instances.empty((9, 7)), Instances.from_masks(np.zeros((0, 9, 7), bool))):
        assert len(instances) == 0
        assert instances.masks().shape == (0, 9, 7)
        assert instances.boxes.shape == (0, 4)
        assert len(instances[[]]) == 0


@given(hnp.arrays(np.float32, (3, 6, 5), elements=st.floats(0, 1, width=32)))
@settings(max_examples=50)
def test_probabilities_survive(probabilities):
    instances = Instances.from_masks(probabilities)
    for i in range(3):
        assert (instances.probability(i) == probabilities[i]).all()
    assert (instances.masks() == (probabilities > 0.5)).all()


def test_a_mask_of_float64_is_judged_as_the_float32_that_is_kept():
    mask = np.full((4, 4), 0.5 + 1e-12)
    instances = Instances.from_masks(mask)
    assert not instances.masks().any()
    assert instances.boxes[0].tolist() == [0, 0, 0, 0]


def test_indexing(tricky_masks):
    masks = np.stack(list(tricky_masks.values()))
    instances = Instances.from_masks(masks, scores=np.linspace(0.1, 0.7, 7), category_ids=np.arange(7))
    for index, expected in (
        (2, [2]),
        (-1, [6]),
        (slice(1, 4), [1, 2, 3]),
        ([5, 0], [5, 0]),
        (np.array([1, 1]), [1, 1]),
        (instances.scores > 0.45, [4, 5, 6]),
    ):
        part = instances[index]
        assert part.category_ids.tolist() == expected
        assert (part.masks() == masks[expected]).all()
    assert [one.category_ids.tolist() for one in instances] == [[i] for i in range(7)]
    with pytest.raises(IndexError):
        instances[7]


def test_with_windows_keeps_the_rest(tricky_masks):
    instances = Instances.from_masks(tricky_masks["holes"], scores=[0.3], category_ids=[9])
    changed = instances.with_windows([Window(np.ones((2, 2), np.float32), 0, 0)])
    assert changed.scores.tolist() == instances.scores.tolist()
    assert changed.boxes.tolist() == instances.boxes.tolist()
    assert changed.mask(0).sum() == 4


def test_tight_box_of_nothing():
    assert tight_box(np.zeros((3, 4), bool)).tolist() == [0, 0, 0, 0]
    assert tight_box(np.zeros((0, 0), bool)).tolist() == [0, 0, 0, 0]


ONE = np.ones((1, 4, 5), bool)


@pytest.mark.parametrize(
    ("masks", "options", "error", "words"),
    [
        (np.zeros((2, 3, 4, 5)), {}, ShapeError, r"\(N, H, W\)"),
        (np.zeros((1, 0, 5)), {}, ShapeError, "at least one pixel"),
        (np.full((1, 2, 2), np.nan), {}, ValueRangeError, "mask 0"),
        (np.full((1, 2, 2), 255, np.uint8), {}, ValueRangeError, "probabilities in"),
        (np.full((1, 2, 2), -0.1), {}, ValueRangeError, "probabilities in"),
        (np.full((1, 2, 2), "a"), {}, ValueRangeError, "booleans or probabilities"),
        (ONE, {"scores": [0.5, 0.6]}, ShapeError, "scores"),
        (ONE, {"scores": [np.nan]}, ValueRangeError, "scores"),
        (ONE, {"scores": [1.5]}, ValueRangeError, "scores"),
        (ONE, {"category_ids": [1, 2]}, ShapeError, "category_ids"),
        (ONE, {"boxes": [[0, 0, 5]]}, ShapeError, "boxes"),
        (ONE, {"boxes": [[0, 0, np.inf, 4]]}, ValueRangeError, "finite"),
        (ONE, {"boxes": [[3, 0, 1, 4]]}, ValueRangeError, "x0 <= x1"),
        (ONE, {"boxes": [[50, 0, 60, 4]]}, ValueRangeError, "outside the image of 4x5"),
        (np.zeros((0, 4, 5)), {"boxes": np.zeros(3)}, ShapeError, "boxes"),
    ],
)
def test_bad_input_is_named(masks, options, error, words):
    with pytest.raises(error, match=words):
        Instances.from_masks(masks, **options)


def test_a_box_may_overhang_the_image():
    assert Instances.from_masks(ONE, boxes=[[-1.5, -0.5, 5.5, 4.5]]).boxes[0, 0] == -1.5


def test_a_window_must_lie_inside_the_image():
    window = Window(np.ones((3, 3), np.float32), 2, 0)
    with pytest.raises(ShapeError, match="leaves the image of 4x5"):
        Instances((4, 5), np.zeros((1, 4)), np.ones(1), np.ones(1), (window,))


@pytest.mark.parametrize("size", [(0, 5), (4,), None, (4, 5, 6)])
def test_bad_image_size(size):
    with pytest.raises(ShapeError, match="image_size"):
        Instances.empty(size)


@pytest.mark.parametrize("values", [np.full((2, 2), 1.5), np.full((2, 2), np.nan), np.full((2, 2), -3.0)])
def test_window_refuses_logits(values):
    with pytest.raises(ValueRangeError, match="sigmoid"):
        Window(values, 0, 0)


@pytest.mark.parametrize(
    "rect", [(0, 0, 9, 12), (2, 3, 6, 8), (3, 4, 5, 6), (0, 0, 3, 5), (-4, -5, 20, 30), (7, 0, 9, 12), (4, 1, 4, 9)]
)
def test_a_window_over_a_rectangle(rect):
    window = Window(np.linspace(0.1, 1, 20, dtype=np.float32).reshape(4, 5), 2, 3)
    y0, x0, y1, x1 = rect
    wide = np.zeros((60, 60), np.float32)
    wide[20 + 2 : 20 + 6, 20 + 3 : 20 + 8] = window.probabilities
    laid = window.over(rect)
    assert laid.dtype == np.float32
    assert (laid == wide[20 + y0 : 20 + y1, 20 + x0 : 20 + x1]).all()


def test_scores_above():
    instances = Instances.from_masks(np.ones((3, 4, 4), bool), scores=[0.7, 0.69999, 0.9])
    # 0.7 is not a float32: the comparison must not depend on that.
    assert instances.above(0.7).scores.tolist() == np.array([0.7, 0.9], np.float32).tolist()
    assert len(instances.above(0)) == 3
    assert len(instances.above(1)) == 0


def test_scale():
    masks = np.zeros((3, 30, 40), bool)
    masks[0, 2:10, 3:21] = masks[1, 5:14, 5:9] = masks[2, 7, 7] = True
    instances = Instances.from_masks(masks, boxes=[[3, 2, 21, 10], [5, 5, 5, 5], [7, 7, 7.5, 7.5]])
    assert [instances.scale(i) for i in range(3)] == [12, 6, 1]


def test_sets_of_one_image_are_joined_in_order():
    masks = np.eye(6, dtype=bool)[:, None].repeat(4, axis=1)
    whole = Instances.from_masks(masks, scores=np.linspace(0, 1, 6), category_ids=range(6))
    joined = Instances.concatenate([whole[:2], whole[2:2], whole[2:]])
    assert np.array_equal(joined.masks(), masks)
    assert joined.category_ids.tolist() == list(range(6))
    with pytest.raises(ShapeError, match="of one image"):
        Instances.concatenate([whole, Instances.empty((9, 9))])
