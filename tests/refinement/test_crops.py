"""The network's view of an instance, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crispmask.instances import Instances, Window
from crispmask.refinement.crops import CORNER, INSIDE, PREDICTED, WIDE, Crop, Frame
from crispmask.refinement.instance import InstanceView
from crispmask.refinement.windows import Rect


@pytest.mark.parametrize(("frames", "beside"), [(WIDE, 0.2), (PREDICTED, 0.1)])
@settings(max_examples=60, deadline=None)
@given(st.floats(-40, 300), st.floats(-40, 200), st.floats(1, 400), st.floats(1, 300))
def test_the_crop_holds_the_box_with_context(frames, beside, x0, y0, width, height):
    crop = Crop.around((x0, y0, x0 + width, y0 + height), frames)
    assert crop.left <= x0 - beside * width
    assert crop.top <= y0 - beside * height
    assert crop.left + crop.side >= x0 + width + beside * width
    assert crop.top + crop.side >= y0 + height + beside * height
    assert crop.size in [frame.size for frame in frames]


def test_a_crop_has_the_first_frame_that_does_not_shrink_it_or_the_last():
    frames = Frame(1.5, 64), Frame(1.25, 128), Frame(2.0, 96)
    found = [Crop.around((0, 0, side, 9), frames) for side in (30, 37, 38, 96, 97, 1000)]
    assert [crop.size for crop in found] == [64, 64, 128, 128, 96, 96]
    assert [crop.side for crop in found] == [53, 64, 56, 128, 202, 2008]


def test_a_mask_with_a_score_is_seen_as_one_that_a_model_predicted():
    image, mask = np.zeros((300, 300, 3), np.uint8), np.zeros((300, 300), bool)
    mask[100:140, 60:160] = True
    for score, frames in ((1.0, WIDE), (0.9, PREDICTED)):
        found = Instances.from_masks(mask, scores=[score])
        box = found.windows[0].mask_box
        assert InstanceView.of(image, found, 0).crop == Crop.around(box, frames)
        assert InstanceView.of(image, found, 0, from_box=True).crop == Crop.around(box, WIDE)


def test_the_view_is_what_pillow_makes_of_the_padded_square():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 150, 3), np.uint8)
    crop = Crop(-20, 30, 160, 192)
    square = Image.fromarray(image).crop((-20, 30, 140, 190)).resize((192, 192), Image.Resampling.BILINEAR)
    off = np.abs(crop.image(image).astype(int) - np.asarray(square))  # Pillow rounds after each axis
    assert off.max() == 1
    assert off.mean() < 0.25


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
