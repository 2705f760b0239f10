"""The network's view of an instance, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crispmask.instances import Window
from crispmask.refinement.crops import CORNER, INSIDE, SIZES, Crop
from crispmask.refinement.windows import Rect


@settings(max_examples=60, deadline=None)
@given(st.floats(-40, 300), st.floats(-40, 200), st.floats(1, 400), st.floats(1, 300))
def test_the_crop_holds_the_box_with_context(x0, y0, width, height):
    crop = Crop.around((x0, y0, x0 + width, y0 + height))
    assert crop.left <= x0 - 0.2 * width
    assert crop.top <= y0 - 0.2 * height
    assert crop.left + crop.side >= x0 + width + 0.2 * width
    assert crop.top + crop.side >= y0 + height + 0.2 * height
    assert crop.size in SIZES


def test_a_small_crop_is_not_shrunk_and_a_large_one_gets_the_largest_size():
    assert Crop.around((0, 0, 20, 30)).size == SIZES[0]
    assert Crop.around((0, 0, 2000, 300)).size == SIZES[-1]


def test_the_view_is_what_pillow_makes_of_the_padded_square():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 150, 3), np.uint8)
    crop = Crop(-20, 30, 160, 192)
    square = Image.fromarray(image).crop((-20, 30, 140, 190)).resize((192, 192), Image.Resampling.BILINEAR)
    assert np.array_equal(crop.image(image), np.asarray(square))


def test_a_mask_has_zero_outside_the_image_and_its_window():
    crop = Crop(-20, 30, 192, 192)
    seen = crop.mask(Window(np.ones((10, 15), np.float32), 40, 0), (120, 150))
    assert seen[10:20, 20:35].all()
    assert seen.sum() == 150


def test_back_is_the_inverse_of_the_view_for_a_smooth_map():
    y, x = np.mgrid[:200, :240]
    smooth = (0.5 + 0.4 * np.sin(x / 30) * np.cos(y / 25)).astype(np.float32)
    crop = Crop(10, -15, 230, 256)
    rect = Rect(20, 30, 180, 200)
    found = crop.back(crop.mask(Window(smooth, 0, 0), smooth.shape), rect, rect.shape)
    assert np.abs(found - smooth[rect.slices])[5:-5, 5:-5].max() < 0.01


def test_back_is_the_part_of_the_whole_square():
    values = np.random.default_rng(0).normal(size=(192, 192)).astype(np.float32)
    crop = Crop(5, 7, 301, 192)
    whole = np.asarray(Image.fromarray(values).resize((301, 301), Image.Resampling.BILINEAR))
    rect = Rect(50, 60, 201, 280)
    np.testing.assert_allclose(crop.back(values, rect, rect.shape), whole[43:194, 55:275], atol=1e-4)


def test_a_huge_crop_is_seen_like_a_smaller_one_of_the_same_scene():
    y, x = np.mgrid[:256, :256]
    disc = (np.hypot(y - 130, x - 120) < 60).astype(np.float32)
    huge = np.kron(disc, np.ones((16, 16), np.float32))
    small = Crop(0, 0, 256, 256).mask(Window(disc, 0, 0), disc.shape)
    large = Crop(0, 0, 4096, 256).mask(Window(huge, 0, 0), huge.shape)
    assert np.abs(large - small).mean() < 0.002


@pytest.mark.parametrize("box", [(10.5, 20.25, 90.75, 60.0), (-30, -10, 50, 200), (3, 3, 4, 4)])
def test_the_ellipse_touches_the_sides_of_the_box(box):
    crop = Crop.around(box)
    prompt = crop.ellipse(box)
    assert set(np.unique(prompt)) <= {0, np.float32(CORNER), np.float32(INSIDE)}
    cell = crop.side / crop.size
    rows, columns = np.flatnonzero((prompt > 0.5).any(1)), np.flatnonzero((prompt > 0.5).any(0))
    ends = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    expected = np.array([box[0] - crop.left, box[1] - crop.top, box[2] - crop.left, box[3] - crop.top]) / cell
    np.testing.assert_allclose(ends, expected, atol=2.1)
