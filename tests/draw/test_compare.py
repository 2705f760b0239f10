from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from crispmask.draw import AFTER, BEFORE, before_after, draw_instances, edge_zoom, palette, show
from crispmask.errors import DataError, ImageError, ShapeError, ValueRangeError
from crispmask.instances import Instances

GREY = np.full((120, 160, 3), 128, np.uint8)


def square(y0: int, y1: int, x0: int, x1: int, size=(120, 160)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def close_to(picture: np.ndarray, colour) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).max(axis=-1) < 12


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


@pytest.fixture
def pair() -> tuple[Instances, Instances]:
    return Instances.from_masks(square(30, 90, 40, 120)), Instances.from_masks(square(30, 90, 40, 100))


def test_show_of_two_is_before_after_as_an_image(pair):
    shown = show(GREY, *pair, titles=("Left", "Right"))
    assert isinstance(shown, Image.Image)
    assert np.array_equal(np.asarray(shown), before_after(GREY, *pair, titles=("Left", "Right")))


def test_show_of_one_has_the_images_size_and_names(pair):
    shown = show(GREY, pair[0], names={1: "cat"})
    assert shown.size == (160, 120)
    assert np.array_equal(np.asarray(shown), draw_instances(GREY, pair[0], names={1: "cat"}))
    assert not np.array_equal(np.asarray(shown), np.asarray(show(GREY, pair[0], labels=False)))


def test_show_takes_files_arrays_and_detections(pair, tmp_path):
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    expected = np.asarray(show(GREY, *pair))
    before, after = pair
    detections = SimpleNamespace(
        xyxy=after.boxes, mask=after.masks(), confidence=after.scores, class_id=after.category_ids
    )
    for image in (str(tmp_path / "grey.png"), tmp_path / "grey.png", Image.fromarray(GREY)):
        assert np.array_equal(np.asarray(show(image, before.masks(), detections)), expected)
    # An array has no category and no score to write.
    assert np.array_equal(np.asarray(show(GREY, before.masks())), np.asarray(show(GREY, before, labels=False)))


def test_show_refuses_what_it_cannot_draw(pair):
    with pytest.raises(DataError, match="no masks to show"):
        show(GREY, SimpleNamespace(xyxy=pair[0].boxes, mask=None))
    with pytest.raises(ShapeError, match="60x60"):
        show(GREY, pair[0], np.zeros((60, 60), bool))
    with pytest.raises(ImageError, match="absent"):
        show("absent.jpg", pair[0])
