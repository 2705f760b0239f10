from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as reference

from crispmask.formats.polygons import joined, outlines, simplify
from crispmask.instances import Instances

MASKS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def drawn(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    """Polygons as pycocotools fills them."""
    if not polygons:
        return np.zeros((height, width), bool)
    return reference.decode(reference.merge(reference.frPyObjects(polygons, height, width))).astype(bool)


def window(mask: np.ndarray):
    return Instances.from_masks(mask).windows[0]


def distance(point: np.ndarray, ring: np.ndarray) -> float:
    """Of a point from a closed line."""
    ends = np.roll(ring, -1, axis=0) - ring
    place = np.clip(((point - ring) * ends).sum(axis=1) / (ends**2).sum(axis=1), 0, 1)
    return float(np.linalg.norm(point - ring - place[:, None] * ends, axis=1).min())


@settings(max_examples=80, deadline=None)
@given(MASKS)
def test_masks_come_back_from_joined_parts(mask):
    parts = outlines(window(mask))
    assert (drawn([joined(rings).ravel().tolist() for rings in parts], *mask.shape) == mask).all()
    everything = [ring for rings in parts for ring in rings]
    whole = [joined(everything).ravel().tolist()] if everything else []
    assert (drawn(whole, *mask.shape) == mask).all()


def test_parts_and_holes(tricky_masks):
    counts = {name: [len(rings) for rings in outlines(window(mask))] for name, mask in tricky_masks.items()}
    assert counts["holes"] == [3]
    assert sorted(counts["parts"]) == [1, 1, 1]
    assert counts["one pixel"] == counts["full"] == [1]
    assert outlines(window(np.zeros((4, 5), bool))) == []


def test_a_rectangle_has_the_corners_of_its_pixels_cut(tricky_masks):
    """Half a pixel of each corner, which holds no pixel's centre."""
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3:8] = True
    ((ring,),) = outlines(window(mask))
    assert len(ring) == 8
    assert (ring.min(axis=0) == (3, 2)).all()
    assert (ring.max(axis=0) == (8, 5)).all()


@pytest.mark.parametrize("tolerance", [0.0, 0.5, 1.0, 3.0])
def test_no_outline_moves_by_more_than_the_tolerance(tolerance):
    y, x = np.mgrid[:120, :160]
    angle = np.arctan2(y - 60, x - 80)
    blob = np.hypot(y - 60, x - 80) < 40 * (1 + 0.2 * np.sin(5 * angle))
    blob[50:60, 70:85] = False
    exact, simpler = outlines(window(blob)), outlines(window(blob), tolerance)
    for before, after in zip(exact[0], simpler[0], strict=True):
        assert len(after) <= len(before)
        assert max(distance(point, after) for point in before) <= tolerance + 1e-9
    if tolerance >= 1:
        assert len(simpler[0][0]) < len(exact[0][0]) / 3
    changed = drawn([joined(rings).ravel().tolist() for rings in simpler], 120, 160) ^ blob
    assert changed.sum() <= (0 if tolerance == 0 else 600)


def test_small_things_do_not_vanish(tricky_masks):
    for name in ("one pixel", "corner pixel"):
        ((ring,),) = outlines(window(tricky_masks[name]), tolerance=50)
        assert (drawn([ring.ravel().tolist()], 37, 53) == tricky_masks[name]).all()


def test_simplify_keeps_corners_and_drops_points_between():
    square = np.array([[0, 0], [2, 0], [4, 0], [4, 1], [4, 4], [0, 4], [0, 2]], float)
    assert simplify(square, 0).tolist() == [[0, 0], [4, 0], [4, 4], [0, 4]]
    assert simplify(square + 7, 0.1).tolist() == [[7, 7], [11, 7], [11, 11], [7, 11]]
