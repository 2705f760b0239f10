"""Small parts and holes go, all else stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label

from crispmask.refinement.clean import without_specks


@pytest.fixture
def mask() -> np.ndarray:
    """1600 pixels in a square with a hole of 100 and one of 2, a second square of 144, and specks of 1 and 3."""
    made = np.zeros((80, 90), np.float32)
    made[10:51, 10:51] = 0.9
    made[20:30, 20:30] = 0.2
    made[40, 40:42] = 0.3
    made[60:72, 60:72] = 0.8
    made[5, 70] = 0.7
    made[70:73, 5] = 0.6
    return made


def test_specks_and_pinholes_go_and_real_parts_and_holes_stay(mask):
    cleaned = without_specks(mask, 0.01)
    expected = mask > 0.5
    expected[5, 70] = expected[70:73, 5] = False
    expected[40, 40:42] = True
    assert np.array_equal(cleaned > 0.5, expected)
    assert cleaned[5, 70] == np.float32(1) - np.float32(0.7)
    assert cleaned[40, 40] == np.float32(1) - np.float32(0.3)
    same = (mask > 0.5) == expected
    assert np.array_equal(cleaned[same], mask[same])


def test_a_larger_share_takes_real_parts_too(mask):
    assert label(without_specks(mask, 0.2) > 0.5)[1] == 1


def test_nothing_is_removed_by_choice(mask):
    assert without_specks(mask, 0.0) is mask


def test_a_small_opening_to_the_border_is_a_hole_and_a_large_one_is_not():
    ring = np.ones((20, 20), np.float32)
    ring[9, 12:] = 0
    assert (without_specks(ring, 0.03) > 0.5).all()
    assert without_specks(ring, 0.01) is ring


def test_a_hole_at_a_tie_is_filled():
    full = np.ones((20, 20), np.float32)
    full[10, 10] = 0.5
    assert (without_specks(full, 0.1) > 0.5).all()


def test_parts_that_touch_at_a_corner_are_one():
    mask = np.zeros((20, 20), np.float32)
    mask[2:10, 2:10] = mask[10, 10] = 1
    assert without_specks(mask, 0.5)[10, 10] == 1


@given(
    arrays(np.float32, st.tuples(st.integers(1, 15), st.integers(1, 15)), elements=st.floats(0, 1, width=32)),
    st.floats(0, 1),
)
def test_any_map_keeps_its_largest_part(probabilities, share):
    before = probabilities.copy()
    cleaned = without_specks(probabilities, share)
    assert np.array_equal(probabilities, before)
    assert cleaned.shape == probabilities.shape
    assert cleaned.min() >= 0
    assert cleaned.max() <= 1
    parts, count = label(probabilities > 0.5, np.ones((3, 3)))
    if count:
        largest = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
        assert (cleaned > 0.5)[largest].all()
        final, _ = label(cleaned > 0.5, np.ones((3, 3)))
        assert (np.bincount(final.ravel())[1:].min() >= share * (probabilities > 0.5).sum()) or final.max() == 1
    else:
        assert cleaned is probabilities
