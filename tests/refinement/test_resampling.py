"""Resizing parts of images and maps: what Pillow makes of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crispmask.refinement.resampling import resampled, taps


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.05, 1), st.floats(0.05, 1)),
    st.integers(0, 99),
)
def test_a_stretch_of_a_map(
    size: tuple[int, int], shape: tuple[int, int], stretch: tuple[float, float, float, float], seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    (y0, x0), (height, width) = (np.array(stretch[:2]) * size).tolist(), size
    y1, x1 = y0 + stretch[2] * (height - y0), x0 + stretch[3] * (width - x0)
    rows, columns = taps(y0, y1, shape[0], height, 0, height), taps(x0, x1, shape[1], width, 0, width)
    found = resampled(values, (0, 0), rows, columns)
    theirs = Image.fromarray(values).resize(shape[::-1], Image.Resampling.BILINEAR, (x0, y0, x1, y1))
    np.testing.assert_allclose(found, np.asarray(theirs), atol=2e-4)  # Pillow's stretch is float32


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(-30, 60), st.integers(-30, 60), st.integers(0, 99))
def test_what_lies_outside_is_zero(height: int, width: int, y: int, x: int, seed: int) -> None:
    """An image at row y, column x of a square of 40 pixels, of which parts may lie outside."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    square = Image.new("RGB", (40, 40))
    square.paste(Image.fromarray(image), (x, y))
    rows, columns = taps(0, 40, 23, 40, y, y + height), taps(0, 40, 23, 40, x, x + width)
    found = resampled(image, (-y, -x), rows, columns)
    theirs = np.asarray(square.resize((23, 23), Image.Resampling.BILINEAR))
    assert np.abs(found.astype(int) - theirs).max() <= 1  # Pillow rounds after each axis
