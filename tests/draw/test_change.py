from __future__ import annotations

import numpy as np

from crispmask.draw import largest_change
from crispmask.instances import Instances


def square(y0: int, y1: int, x0: int, x1: int, size=(120, 160)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_the_largest_change_is_found():
    before = Instances.from_masks(np.stack([square(10, 60, 10, 60), square(60, 115, 90, 155)]))
    after = Instances.from_masks(np.stack([square(10, 60, 10, 59), square(60, 115, 110, 155)]))
    x0, y0, x1, y1 = largest_change(before, after)
    assert x1 - x0 == y1 - y0
    assert x0 <= 90
    assert x1 >= 110
    assert 0 <= y0 < y1 <= 120
    changed = before.mask(1) ^ after.mask(1)
    assert changed[y0:y1, x0:x1].sum() > 0.4 * changed.sum()
    assert largest_change(before, before) is None


def test_an_edge_that_moved_comes_before_a_mask_that_vanished():
    before = Instances.from_masks(np.stack([square(10, 60, 10, 60), square(60, 115, 90, 155)]))
    after = Instances.from_masks(np.stack([square(10, 60, 10, 55), np.zeros((120, 160), bool)]))
    x0, y0, x1, y1 = largest_change(before, after)
    assert x0 <= 55 < 60 <= x1
    assert y0 >= 10
    assert y1 <= 60


def test_a_change_along_the_images_edge_comes_last():
    before = Instances.from_masks(square(10, 110, 0, 80))
    after = Instances.from_masks(square(10, 110, 2, 76))
    x0, _, x1, _ = largest_change(before, after)
    assert x0 > 40
    assert x1 >= 80


def test_change_from_and_to_an_empty_mask():
    nothing, something = Instances.from_masks(np.zeros((120, 160), bool)), Instances.from_masks(square(3, 9, 150, 160))
    for pair in ((nothing, something), (something, nothing)):
        x0, y0, x1, y1 = largest_change(*pair)
        assert x0 <= 150
        assert x1 == 160
        assert y0 <= 3
        assert y1 >= 9
    assert largest_change(nothing, nothing) is None
