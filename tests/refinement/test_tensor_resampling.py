"""Resizing on tensors: what Pillow makes of every part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from crispmask.instances import Window  # noqa: E402
from crispmask.refinement.crops import Crop  # noqa: E402
from crispmask.refinement.tensor_resampling import Taps, resampled  # noqa: E402
from crispmask.refinement.windows import Rect  # noqa: E402


def seen(image: np.ndarray, crops: list[Crop]) -> np.ndarray:
    """Crops of an image (H, W, C) on tensors: (N, S, S, C), rounded where the image is uint8."""
    size, channels = image.shape[:2], image.shape[2]
    parts = [crop.reduced(image[crop.rect(size).slices]) for crop in crops]
    heights, widths = (np.array([part.shape[axis] for part in parts]) for axis in (0, 1))
    down, across = (
        Taps.of_crops(crops, [size] * len(crops), axis).within(np.zeros(len(crops), int), (heights, widths)[axis])
        for axis in (0, 1)
    )
    source = torch.from_numpy(np.concatenate([part.reshape(-1, channels) for part in parts]))
    starts = np.cumsum(heights * widths) - heights * widths
    found = resampled(source, starts, widths, heights, down, across)
    return found.numpy().reshape(len(crops), crops[0].size, crops[0].size, channels)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_crops_of_an_image(data: Any) -> None:
    height, width = (data.draw(st.integers(1, 130)) for _ in range(2))
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    crops = []
    for _ in range(data.draw(st.integers(1, 3))):
        size, side = 16, data.draw(st.integers(9, 300))  # beyond 127 pixels blocks are averaged first
        top, left = (data.draw(st.integers(1 - side, length - 1)) for length in (height, width))
        crops.append(Crop(left, top, side, size))
    for crop, found in zip(crops, seen(image, crops), strict=True):
        off = np.abs(found - crop.image(image).astype(int))
        # Sums in another order end on the other side of a half now and then.
        assert off.max() <= 1
        assert (off > 0).sum() <= max(3, 0.02 * off.size)


def test_masks_and_the_way_back() -> None:
    rng = np.random.default_rng(1)
    windows = [Window(rng.random((h, w), np.float32), y, x) for h, w, y, x in ((30, 50, 10, 5), (80, 20, 0, 60))]
    crops, size = [Crop(-10, -5, 90, 32), Crop(20, 0, 110, 32)], (90, 100)
    down, across = (
        Taps.of_crops(crops, [size] * 2, axis).within(
            [(w.y, w.x)[axis] - crop.rect(size)[axis] for w, crop in zip(windows, crops, strict=True)],
            [w.probabilities.shape[axis] for w in windows],
        )
        for axis in (0, 1)
    )
    flat = torch.from_numpy(np.concatenate([w.probabilities.reshape(-1) for w in windows]))[:, None]
    found = resampled(flat, [0, 30 * 50], [50, 20], [30, 80], down, across).numpy().reshape(2, 32, 32)
    for crop, window, ours in zip(crops, windows, found, strict=True):
        np.testing.assert_allclose(ours, crop.mask(window, size), atol=1e-6)

    rects = [Rect(3, 0, 80, 70), Rect(10, 30, 90, 100)]
    counts = [(rect.y1 - rect.y0, rect.x1 - rect.x0) for rect in rects]
    sides = [
        Taps.make(
            [(r[a] - (c.top, c.left)[a]) * 32 / c.side for r, c in zip(rects, crops, strict=True)],
            [(r[a + 2] - (c.top, c.left)[a]) * 32 / c.side for r, c in zip(rects, crops, strict=True)],
            [shape[a] for shape in counts],
            [32, 32],
        )
        for a in (0, 1)
    ]
    back = resampled(torch.from_numpy(found.reshape(-1, 1)), [0, 32 * 32], [32, 32], [32, 32], sides[0], sides[1])
    parts = torch.split(back[:, 0], [h * w for h, w in counts])
    for crop, ours, rect, shape, part in zip(crops, found, rects, counts, parts, strict=True):
        np.testing.assert_allclose(part.numpy().reshape(shape), crop.back(ours, rect, shape), atol=1e-5)
