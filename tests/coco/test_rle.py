from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as reference

from crispmask.coco import mask_to_rle, segmentation_to_mask, segmentation_to_rle
from crispmask.coco.rle import segmentation_to_window, window_to_rle
from crispmask.errors import DataError, ShapeError, ValueRangeError
from crispmask.instances import Instances, Window

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))


def plain(mask: np.ndarray) -> dict:
    flat = np.concatenate(([False], mask.ravel(order="F")))
    ends = np.concatenate((np.flatnonzero(flat[1:] != flat[:-1]), [mask.size]))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate(([0], ends))).tolist()}


@given(masks)
@settings(max_examples=200, deadline=None)
def test_round_trips_and_pycocotools(mask):
    height, width = mask.shape
    rle = mask_to_rle(mask)
    expected = reference.encode(np.asfortranarray(mask, np.uint8))
    assert rle == {"size": [height, width], "counts": expected["counts"].decode()}
    assert json.loads(json.dumps(rle)) == rle
    for spelling in (rle, expected, plain(mask)):
        assert (segmentation_to_mask(spelling, height, width) == mask).all()
        assert segmentation_to_rle(spelling, height, width) == rle


@given(masks, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), st.data())
@settings(max_examples=200, deadline=None)
def test_windows_give_the_runs_of_their_images(part, more, data):
    image = np.zeros(np.array(part.shape) + np.array(more) - 1, bool)
    y, x = (data.draw(st.integers(0, side - 1)) for side in more)
    image[y : y + part.shape[0], x : x + part.shape[1]] = part
    rle = window_to_rle(Window(part.astype(np.float32), y, x), *image.shape)
    assert rle == mask_to_rle(image)
    for spelling in (rle, plain(image)):
        window = segmentation_to_window(spelling, *image.shape)
        expected = Instances.from_masks(image).windows[0]
        assert (window.y, window.x) == (expected.y, expected.x)
        assert np.array_equal(window.probabilities, expected.probabilities)


def test_tricky_masks(tricky_masks):
    for mask in [*tricky_masks.values(), np.zeros((37, 53), bool)]:
        decoded = segmentation_to_mask(mask_to_rle(mask), 37, 53)
        assert decoded.dtype == np.bool_
        assert decoded.flags.c_contiguous
        assert (decoded == mask).all()
        assert (segmentation_to_mask(plain(mask), 37, 53) == mask).all()


def test_long_runs():
    mask = np.zeros((4000, 3000), bool)
    mask[5, 7] = mask[-1, -1] = True
    rle = mask_to_rle(mask)
    assert rle["counts"].encode() == reference.encode(np.asfortranarray(mask, np.uint8))["counts"]
    assert (segmentation_to_mask(rle, 4000, 3000) == mask).all()


coordinate = st.floats(-5, 45, allow_nan=False)


@given(st.lists(st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=9), min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_polygons_equal_pycocotools(parts):
    polygons = [[value for point in part for value in point] for part in parts]
    expected = reference.decode(reference.merge(reference.frPyObjects(polygons, 30, 40)))
    assert (segmentation_to_mask(polygons, 30, 40) == expected.astype(bool)).all()


def test_polygon_parts_are_united():
    square, other = [2, 2, 6, 2, 6, 6, 2, 6], [20, 10, 25, 10, 25, 12, 20, 12]
    mask = segmentation_to_mask([square, other], 30, 40)
    assert mask.sum() == 16 + 10
    assert mask[2:6, 2:6].all()
    assert mask[10:12, 20:25].all()


def test_numbers_count_as_masks():
    assert mask_to_rle(np.eye(3)) == mask_to_rle(np.eye(3, dtype=bool))


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        (np.zeros((2, 3, 4), bool), ShapeError),
        (np.zeros((0, 4), bool), ShapeError),
        (np.full((2, 2), 0.4), ValueRangeError),
        (np.full((2, 2), 255, np.uint8), ValueRangeError),
        (np.full((2, 2), np.nan), ValueRangeError),
    ],
)
def test_encode_refuses(mask, error):
    with pytest.raises(error):
        mask_to_rle(mask)


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ({"size": [4, 6], "counts": [24]}, "size"),
        ({"size": [5, 4], "counts": [20]}, "size"),
        ({"size": None, "counts": [20]}, "size"),
        ({"counts": [20]}, "size"),
        ({"size": [4, 5]}, "string or a list"),
        ({"size": [4, 5], "counts": 20}, "string or a list"),
        ({"size": [4, 5], "counts": [10, 9]}, "covers 19 pixels, the image has 20"),
        ({"size": [4, 5], "counts": []}, "covers 0 pixels"),
        ({"size": [4, 5], "counts": ""}, "covers 0 pixels"),
        ({"size": [4, 5], "counts": [25, -5]}, "negative"),
        ({"size": [4, 5], "counts": [10, 2**70]}, "longer than the image"),
        ({"size": [4, 5], "counts": [10.5, 9.5]}, "whole numbers"),
        ({"size": [4, 5], "counts": [float("nan"), 20]}, "whole numbers"),
        ({"size": [4, 5], "counts": ["a"]}, "whole numbers"),
        ({"size": [4, 5], "counts": "T"}, "cut short"),
        ({"size": [4, 5], "counts": "é"}, "ASCII"),
        ({"size": [4, 5], "counts": "~"}, "do not belong"),
        ({"size": [4, 5], "counts": " "}, "do not belong"),
        ({"size": [4, 5], "counts": "ooooooooooooo0"}, "longer than any image"),
        ({"size": [4, 5], "counts": "N"}, "negative"),
        ([], "empty list"),
        (None, "RLE or a list"),
        ("0123", "RLE or a list"),
        (7, "RLE or a list"),
        ([1, 2, 3, 4, 5, 6], "flat list"),
        ([[1, 2, 3, 4]], "needs at least 3"),
        ([[]], "needs at least 3"),
        ([[1, 2, 3, 4, 5, 6, 7]], "even number"),
        ([[1, 2, 3, float("nan"), 5, 6]], "NaN"),
        ([[1, 2, 3, float("inf"), 5, 6]], "NaN or infinite"),
        ([[1, 2, 3, 1e9, 5, 6]], "leaves the image"),
        ([[1, 2, 3, 3, 5, 6], [1, 2, "x", 4, 5, 6]], "polygon 1"),
        ([[[1, 2], [3, 4], [5, 6]]], "flat list"),
    ],
)
def test_malformed_segmentations(segmentation, words):
    for convert in (segmentation_to_mask, segmentation_to_rle):
        with pytest.raises(DataError, match=words) as caught:
            convert(segmentation, 4, 5)
        assert "\n" not in str(caught.value)


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_string_is_a_mask_or_an_error(counts):
    with suppress(DataError):
        assert segmentation_to_mask({"size": [4, 5], "counts": counts}, 4, 5).shape == (4, 5)
