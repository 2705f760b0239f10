from __future__ import annotations

import numpy as np
import pytest

from crispmask.draw import draw_instances, palette
from crispmask.instances import Instances

GREY = np.full((120, 160, 3), 128, np.uint8)


def square(y0: int, y1: int, x0: int, x1: int, size=(120, 160)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_palette_is_distinct_and_stable():
    colours = palette(24)
    assert colours == palette(30)[:24]
    distances = [np.abs(np.subtract(a, b)).sum() for i, a in enumerate(colours) for b in colours[:i]]
    assert min(distances) > 30
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)


def test_fill_contour_and_background():
    mask = square(30, 90, 40, 120)
    picture = draw_instances(GREY, Instances.from_masks(mask), labels=False, colours=[(255, 0, 0)], fill=0.5, line=2)
    assert picture.dtype == np.uint8
    assert picture[60, 80].tolist() == [192, 64, 64]  # half red, half grey
    assert (picture[~np.pad(mask, 2)[2:-2, 2:-2] & (np.arange(160) < 30)] == 128).all()
    # Two pixels of pure colour along the edge, one inside and one outside, and nothing two pixels away.
    assert picture[60, 40].tolist() == picture[60, 39].tolist() == [255, 0, 0]
    assert picture[60, 37].tolist() == [128, 128, 128]
    assert picture[60, 43].tolist() == [192, 64, 64]
    assert (GREY == 128).all()


def test_a_hole_has_a_contour_and_no_fill():
    mask = square(20, 100, 30, 130) & ~square(50, 70, 70, 90)
    picture = draw_instances(GREY, Instances.from_masks(mask), labels=False, colours=[(0, 0, 255)])
    assert picture[60, 80].tolist() == [128, 128, 128]
    assert picture[60, 70].tolist() == [0, 0, 255]


def test_no_line_along_the_images_edge():
    picture = draw_instances(
        GREY, Instances.from_masks(square(0, 120, 0, 80)), labels=False, colours=[(255, 0, 0)], fill=0
    )
    assert (picture[:, :70] == 128).all()
    assert picture[60, 80].tolist() == [255, 0, 0]


@pytest.mark.parametrize("labels", [False, True])
def test_everything_that_can_be_drawn(tricky_masks, labels):
    masks = np.stack([*tricky_masks.values(), np.zeros((37, 53), bool)])
    image = np.random.default_rng(0).integers(0, 255, (37, 53, 3), np.uint8)
    instances = Instances.from_masks(masks)
    first = draw_instances(image, instances, labels=labels)
    assert first.shape == image.shape
    assert (first == draw_instances(image, instances, labels=labels)).all()
    one = draw_instances(image, instances[2], labels=False)
    assert (one != image).any()


def test_small_instances_lie_on_top():
    small, large = square(50, 60, 70, 80), square(10, 110, 10, 150)
    colours = [(255, 0, 0), (0, 255, 0)]
    picture = draw_instances(
        GREY, Instances.from_masks(np.stack([small, large])), labels=False, colours=colours, fill=1
    )
    assert picture[55, 75].tolist() == [255, 0, 0]


def test_labels_name_category_and_score():
    instances = Instances.from_masks(square(40, 90, 40, 120), scores=[0.25])
    plain = draw_instances(GREY, instances, labels=False)
    numbers = draw_instances(GREY, instances)
    named = draw_instances(GREY, instances, names={1: "person"})
    changed = [(picture != plain).any(axis=2) for picture in (numbers, named)]
    assert changed[0].any()
    assert changed[1].sum() > changed[0].sum()  # a longer word
    assert not changed[1][45:].any()  # the plate sits on top of the mask


def test_labels_do_not_cover_one_another():
    masks = np.stack([square(30, 110, 40, 120)] * 3)
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    picture = draw_instances(GREY, Instances.from_masks(masks), colours=colours, fill=0, line=0.01)
    for colour in colours:
        assert (picture == colour).all(axis=2).sum() > 150
