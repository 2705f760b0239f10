"""Pasting against torchvision's own grid sampling, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispmask.detectors.paste import paste_window
from crispmask.instances import Instances


def full_map(window, image_size):
    full = np.zeros(image_size, np.float32)
    full[window.slices] = window.probabilities
    return full


def test_equals_grid_sample():
    torch = pytest.importorskip("torch", reason="extra torch is not installed")
    rng = np.random.default_rng(0)
    mask = rng.random((28, 28), dtype=np.float32)
    height, width = 90, 120
    for box in ([10.3, 20.7, 70.2, 81.9], [-15.0, -3.5, 40.0, 33.0], [60.5, 40.0, 160.0, 140.0], [5, 5, 12, 9]):
        x0, y0, x1, y1 = box
        y, x = np.mgrid[:height, :width] + 0.5
        grid = np.stack([(x - x0) / (x1 - x0) * 2 - 1, (y - y0) / (y1 - y0) * 2 - 1], axis=-1).astype(np.float32)
        expected = torch.nn.functional.grid_sample(
            torch.from_numpy(mask)[None, None], torch.from_numpy(grid)[None], align_corners=False
        )[0, 0].numpy()
        window = paste_window(mask, np.array(box, np.float32), (height, width))
        np.testing.assert_allclose(full_map(window, (height, width)), expected, atol=2e-5)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-300, 300, width=32), min_size=4, max_size=4),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_any_box_gives_a_window_inside_the_image(box, height, width):
    box = np.array([min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])], np.float32)
    window = paste_window(np.ones((28, 28), np.float32), box, (height, width))
    clipped = np.clip(box, 0, [width, height, width, height])
    instances = Instances((height, width), clipped[None], np.ones(1), np.ones(1), (window,))
    assert instances.probability(0).max(initial=0) <= 1
    inside = (box[0] + 1 < width / 2 < box[2] - 1) and (box[1] + 1 < height / 2 < box[3] - 1)
    if inside:
        assert instances.mask(0)[height // 2, width // 2]
