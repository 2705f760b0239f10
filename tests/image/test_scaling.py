from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crispmask.image import scaling
from crispmask.image.scaling import reduced, resized


def test_reduced_images_are_the_means_of_blocks(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    small = reduced(image, 5)
    assert small.shape == (4, 6, 3)
    means = image.reshape(4, 5, 6, 5, 3).mean(axis=(1, 3))
    assert np.abs(small - means).max() <= 0.6
    monkeypatch.setattr(scaling, "_STRIP", 1)
    assert (reduced(image, 5) == small).all()
    assert reduced(image[:18, :29], 5).shape == (4, 6, 3)
    assert (reduced(image, 1) == image).all()


@pytest.mark.parametrize("shape", [(7, 11), (20, 11), (61, 47), (20, 90), (3, 200)])
@pytest.mark.parametrize("strip", [1, 50, 300])
def test_strips_give_what_the_whole_gives(shape, strip, monkeypatch):
    rng = np.random.default_rng(1)
    monkeypatch.setattr(scaling, "_STRIP", strip)
    for values, tolerance in (
        (rng.integers(0, 256, (20, 30, 3), np.uint8), 1),
        (rng.random((20, 30), np.float32), 1e-4),
    ):
        whole = np.asarray(Image.fromarray(values).resize(shape[::-1], Image.Resampling.BILINEAR))
        found = resized(values, shape)
        assert found.dtype == values.dtype
        assert np.abs(found.astype(float) - whole).max() <= tolerance
    assert resized(values, (20, 30)) is values
