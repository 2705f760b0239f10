from __future__ import annotations

import numpy as np
import pytest

from crispmask.draw import AFTER, BEFORE, before_after, draw_instances, edge_zoom, largest_change, palette
from crispmask.errors import ShapeError, ValueRangeError
from crispmask.instances import Instances

GREY = np.full((120, 160, 3), 128, np.uint8)


def square(y0: int, y1: int, x0: int, x1: int, size=(120, 160)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def close_to(picture: np.ndarray, colour) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).max(axis=-1) < 12


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


def test_nothing_to_draw():
    assert (draw_instances(GREY, Instances.empty((120, 160))) == GREY).all()
    picture = before_after(GREY, Instances.empty((120, 160)), Instances.empty((120, 160)))
    assert picture.shape[1] == 2 * 320 + 4


def test_before_after_layout():
    photo = np.full((360, 480, 3), 128, np.uint8)
    before = Instances.from_masks(square(90, 270, 120, 360, (360, 480)))
    after = Instances.from_masks(square(90, 270, 120, 300, (360, 480)))
    picture = before_after(photo, before, after, zoom=False)
    bar, gutter = picture.shape[0] - 360, picture.shape[1] - 2 * 480
    assert bar > 10
    assert 2 <= gutter <= 10
    left, right = picture[bar:, :480], picture[bar:, -480:]
    colours = palette(1)
    assert (left == draw_instances(photo, before, labels=False, colours=colours)).all()
    assert (right == draw_instances(photo, after, labels=False, colours=colours)).all()
    assert (picture[:, 480 : 480 + gutter] == 255).all()
    assert (picture[:bar] != 255).any()  # titles
    assert before_after(photo, before, after).shape[1] == 2 * 480 + 2 * gutter + 360
    assert before_after(photo, before, before).shape == picture.shape  # no change, no close-up
    assert before_after(photo, before, after, labels=True).shape[0] == picture.shape[0]


def test_large_photos_are_scaled_down():
    before, after = (Instances.from_masks(square(300, 900, 400, x, (1200, 1600))) for x in (1200, 1100))
    picture = before_after(np.full((1200, 1600, 3), 90, np.uint8), before, after, side=400, zoom=False)
    assert picture.shape[1] < 2 * 400 + 20
    line = close_to(picture, palette(1)[0])
    assert line.any(axis=0).sum() > 300  # the contour is still there


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


def test_zoom_shows_both_contours():
    before, after = Instances.from_masks(square(30, 90, 40, 120)), Instances.from_masks(square(30, 90, 40, 100))
    picture = edge_zoom(GREY, before, after, size=200, place=(80, 40, 140, 80))
    assert picture.shape == (200, 200, 3)
    red, green = close_to(picture, BEFORE), close_to(picture, AFTER)
    # 60 pixels fill 200: the edges at x = 120 and x = 100 lie at (120 - 80) / 60 * 200 and (100 - 80) / 60 * 200.
    assert np.flatnonzero(red[100]).mean() == pytest.approx(133.3, abs=3)
    assert np.flatnonzero(green[100]).mean() == pytest.approx(66.7, abs=3)
    assert edge_zoom(GREY, before, before, size=64).shape == (64, 64, 3)


def test_wrong_sizes_and_types():
    instances = Instances.from_masks(square(1, 5, 1, 5, (60, 60)))
    with pytest.raises(ShapeError, match="120x160 pixels and the instances belong to one of 60x60"):
        draw_instances(GREY, instances)
    with pytest.raises(ShapeError, match="60x60"):
        before_after(GREY, Instances.empty((120, 160)), instances)
    with pytest.raises(ValueRangeError, match="uint8"):
        draw_instances(GREY / 255, Instances.empty((120, 160)))


def test_headings_fit_above_their_panels():
    before = Instances.from_masks(square(30, 90, 40, 120))
    after = Instances.from_masks(square(30, 90, 40, 100))
    picture = before_after(GREY, before, after, titles=("The network's own masks", "After refinement by the CRF"))
    bar = picture.shape[0] - 240
    ink = (picture[:bar] < 100).all(axis=2).any(axis=0)
    gutter = (picture.shape[1] - 2 * 320 - 240) // 2
    for start in (320, 640 + gutter):  # nothing is written across a gutter
        assert not ink[start : start + gutter].any()
    assert ink[-240:].any()
