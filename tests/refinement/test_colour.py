from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2lab

from crispmask.errors import ShapeError, ValueRangeError
from crispmask.refinement.colour import rgb_to_lab


def test_equals_skimage_over_the_whole_cube():
    levels = np.array([0, 1, 5, 10, 11, 40, 77, 128, 200, 254, 255], np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(11, 121, 3)
    lab = rgb_to_lab(cube)
    assert lab.dtype == np.float32
    assert np.abs(lab - rgb2lab(cube)).max() < 1e-3


def test_equals_skimage_on_a_photo(astronaut):
    assert np.abs(rgb_to_lab(astronaut) - rgb2lab(astronaut)).max() < 1e-3


def test_known_colours():
    black, white, red = rgb_to_lab(np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], np.uint8))[0]
    assert np.abs(black).max() < 1e-4
    assert np.abs(white - [100, 0, 0]).max() < 0.02
    assert np.abs(red - [53.24, 80.09, 67.20]).max() < 0.02  # the published value of sRGB red


def test_grey_has_no_hue():
    ramp = np.arange(256, dtype=np.uint8)[None]
    lab = rgb_to_lab(ramp)
    assert np.abs(lab[..., 1:]).max() < 0.02
    assert (np.diff(lab[0, :, 0]) > 0).all()


def test_refusals():
    with pytest.raises(ValueRangeError, match="uint8"):
        rgb_to_lab(np.zeros((2, 2, 3)))
    with pytest.raises(ShapeError, match="channels"):
        rgb_to_lab(np.zeros((2, 2, 4), np.uint8))
