"""Regions to masks and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from crispmask.errors import CrispmaskError
from crispmask.instances import Instances
from crispmask.integrations.label_studio import brush, shapes

SIZE = (37, 53)


def percent(points: list[tuple[float, float]]) -> list[list[float]]:
    return [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in points]


@pytest.mark.parametrize("kind", ["brush", "polygon"])
def test_a_mask_that_is_written_is_read_again(tricky_masks, kind):
    for name, mask in tricky_masks.items():
        window = Instances.from_masks(mask).windows[0]
        value = shapes.write(kind, window, SIZE, 0)
        assert shapes.kind_of(value) == kind
        read = shapes.read(value, SIZE)
        assert not read.from_box
        assert np.array_equal(read.instance.mask(0), mask), name


def test_corners_are_left_out_within_the_tolerance():
    y, x = np.mgrid[:300, :400]
    disc = (y - 150) ** 2 + (x - 200) ** 2 < 100**2
    window = Instances.from_masks(disc).windows[0]
    exact, simple = (shapes.write("polygon", window, disc.shape, t)["points"] for t in (0, 1))
    assert len(simple) < len(exact) / 5
    again = shapes.read({"points": simple}, disc.shape).instance.mask(0)
    assert (again & disc).sum() / (again | disc).sum() > 0.98


def test_a_polygon_covers_the_pixels_that_pillow_draws():
    points = [(5, 4), (40, 9), (48, 30), (20, 34), (9, 20)]
    drawn = Image.new("1", (SIZE[1] * 8, SIZE[0] * 8))
    ImageDraw.Draw(drawn).polygon([(8 * x, 8 * y) for x, y in points], fill=1)
    inside = np.asarray(drawn.resize((SIZE[1], SIZE[0]), Image.Resampling.NEAREST))
    mask = shapes.read({"points": percent(points), "closed": True}, SIZE).instance.mask(0)
    assert (mask & inside).sum() / (mask | inside).sum() > 0.98


def test_a_rectangle_is_a_box():
    value = {"x": 10.0, "y": 20.0, "width": 50.0, "height": 60.0, "rotation": 0}
    read = shapes.read(value, SIZE)
    assert read.from_box
    assert np.allclose(read.instance.boxes[0], [5.3, 7.4, 31.8, 29.6], atol=1e-4)


@pytest.mark.parametrize("angle", [30.0, 90.0, 200.0, -45.0])
def test_a_turned_rectangle_is_an_ellipse_inside(angle):
    height, width = 200, 300
    value = {"x": 50.0, "y": 50.0, "width": 20.0, "height": 15.0, "rotation": angle}
    read = shapes.read(value, (height, width))
    assert not read.from_box
    assert read.instance.scores[0] < 1
    turn = math.radians(angle)
    y, x = np.mgrid[:height, :width] + 0.5
    u = ((x - 150) * math.cos(turn) + (y - 100) * math.sin(turn)) / 60
    v = (-(x - 150) * math.sin(turn) + (y - 100) * math.cos(turn)) / 30
    assert np.array_equal(read.instance.mask(0), (2 * u - 1) ** 2 + (2 * v - 1) ** 2 <= 1)
    inside = (abs(u - 0.5) < 0.5 + 1e-9) & (abs(v - 0.5) < 0.5 + 1e-9)
    assert not read.instance.probability(0)[~inside].any()


@pytest.mark.parametrize(
    "value",
    [
        {"points": [[0, 0], [50, 50]]},
        {"points": "0,0"},
        {"points": [[0, 0], [1, 1, 1], [2, 2]]},
        {"points": [[0, 0], [50, "x"], [50, 0]]},
        {"points": [[0, 0], [50, math.inf], [50, 0]]},
        {"points": [[200, 200], [300, 200], [300, 300]]},
        {"x": 0, "y": 0, "width": 0, "height": 50},
        {"x": 0, "y": 0, "width": "10", "height": 50},
        {"x": 0, "y": 0, "width": 10, "height": math.nan},
        {"x": 0, "y": 0, "width": 10, "height": 10, "rotation": "steep"},
        {"x": 200, "y": 200, "width": 10, "height": 10, "rotation": 20},
        {"x": 20, "y": 20, "width": 0.5, "height": 0.5, "rotation": 20},
        {"x": -1e300, "y": 0, "width": 1e300, "height": 10, "rotation": 20},
        {"rle": [1, 2, 3]},
        {"rle": brush.encode(np.zeros(SIZE, bool))},
        {"rle": brush.encode(np.ones((5, 5), bool))},
    ],
)
def test_damaged_regions_are_refused(value):
    with pytest.raises(CrispmaskError):
        shapes.read(value, SIZE)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        {"choices": ["a"]},
        {"x": 1, "y": 1, "radiusX": 5, "radiusY": 5, "width": 1, "height": 1},
        {"x": 1, "y": 1, "width": 0.3},
    ],
)
def test_other_values_are_no_regions(value):
    assert shapes.kind_of(value) is None
