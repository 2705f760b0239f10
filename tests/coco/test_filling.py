from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from crispmask.coco import filling, segmentation_to_mask, segmentation_to_rle
from crispmask.coco.rle import check_segmentation
from crispmask.errors import DataError

from ..memory import megabytes_above

sides = st.integers(1, 60)
# Anywhere that annotations may be, and where rounding decides: whole pixels, halves, fifths.
place = st.one_of(st.floats(-0.9, 1.9), st.integers(-4, 9).map(lambda n: n / 5))


def expected(parts: list, height: int, width: int) -> str:
    rles = reference.frPyObjects(parts, height, width)
    return (rles[0] if len(rles) == 1 else reference.merge(rles))["counts"].decode()


@given(sides, sides, st.lists(st.lists(st.tuples(place, place), min_size=3, max_size=12), min_size=1, max_size=4))
@settings(max_examples=400)
def test_the_pixels_of_pycocotools(height, width, corners):
    parts = [[value for x, y in part for value in (x * width, y * height)] for part in corners]
    assert segmentation_to_rle(parts, height, width)["counts"] == expected(parts, height, width)


@pytest.mark.parametrize("points", [3, 50, 3000])
def test_strips_of_columns(points, monkeypatch):
    """However few crossings are held at a time."""
    rng = np.random.default_rng(points)
    for rounded in (lambda v: v, np.round):
        parts = [rounded(rng.uniform(-20, 120, 2 * points)).tolist() for _ in range(3)]
        for room in (1, 1000, 1 << 20):
            monkeypatch.setattr(filling, "_ROOM", room)
            assert segmentation_to_rle(parts, 100, 90)["counts"] == expected(parts, 100, 90)


def test_parts_that_touch_or_cover_one_another_are_one_run():
    squares = [[2, 0, 8, 0, 8, 5, 2, 5], [2, 5, 8, 5, 8, 10, 2, 10], [3, 1, 7, 1, 7, 9, 3, 9]]
    mask = segmentation_to_mask(squares, 10, 12)
    assert mask[:, 2:8].all()
    assert mask.sum() == 60
    assert segmentation_to_rle(squares, 10, 12)["counts"] == expected(squares, 10, 12)


def star(points: int, side: int) -> list[float]:
    """A line that crosses the image with every edge."""
    corners = [((k % 2) * side, side * (0.5 + 0.4 * math.sin(k))) for k in range(points)]
    return [round(value, 2) for corner in corners for value in corner]


def test_a_polygon_with_many_points_takes_little_memory():
    """20 000 points on 640 x 640 took 1.4 GB, 4000 on 12 600 x 12 600 more than there was."""
    prepare = "from crispmask.coco import segmentation_to_rle, segmentation_to_mask\nimport math\n"
    prepare += "segmentation_to_rle([[1, 1, 5, 1, 5, 9]], 20, 20)\n"
    polygon = "[v for k in range({n}) for v in ((k % 2) * {side}, {side} * (0.5 + 0.4 * math.sin(k)))]"
    small = f"segmentation_to_mask([{polygon.format(n=20_000, side=640)}], 640, 640)"
    large = f"segmentation_to_rle([{polygon.format(n=1000, side=12_600)}], 12_600, 12_600)"
    assert megabytes_above(prepare, small) < 100
    assert megabytes_above(prepare, large) < 300


def test_too_many_crossings_are_refused():
    polygon = star(6000, 12_600)
    for use in (segmentation_to_rle, check_segmentation):
        with pytest.raises(DataError, match=r"cross 75\d+ columns .* limit of 67108864: simplify .* RLE"):
            use([polygon], 12_600, 12_600)
