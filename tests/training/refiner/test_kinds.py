from __future__ import annotations

import numpy as np
import pytest

from crispmask.instances import Instances
from crispmask.training.refiner.kinds import KINDS, coarse


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.fixture
def ring() -> Instances:
    """A disc of 60 pixels across with a hole, and a speck beside it."""
    y, x = np.mgrid[:100, :140]
    square = (y - 50) ** 2 + (x - 70) ** 2
    return Instances.from_masks(((square < 30**2) & (square > 8**2) | (y > 90) & (x > 130))[None])


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_gets_coarse_but_stays_in_its_place(kind, ring):
    one = coarse(kind, ring, np.random.default_rng(0))
    assert np.array_equal(one.boxes, ring.boxes)
    assert 0.7 < overlap(one.mask(0), ring.mask(0)) < 1


def test_a_coarser_grid_is_further_off(ring):
    fine, rough = (coarse(kind, ring, np.random.default_rng(0)).mask(0) for kind in ("28x28", "14x14"))
    assert overlap(fine, ring.mask(0)) > overlap(rough, ring.mask(0))


def test_a_polygon_is_within_its_tolerance_and_has_no_holes(ring):
    drawn = coarse("polygon", ring, np.random.default_rng(0)).mask(0)
    y, x = np.mgrid[:100, :140]
    radius = np.hypot(y - 50, x - 70)
    x0, y0, x1, y1 = ring.boxes[0]
    furthest = 0.05 * float(np.sqrt((x1 - x0) * (y1 - y0))) + 1
    assert drawn[radius < 30 - furthest].all()
    assert not drawn[(radius > 30 + furthest) & (radius < 40)].any()
    assert drawn[95, 135]


def test_the_same_draw_makes_the_same_mask(ring):
    one, two = (coarse("polygon", ring, np.random.default_rng(5)).mask(0) for _ in range(2))
    assert np.array_equal(one, two)
    assert len({coarse("polygon", ring, np.random.default_rng(k)).mask(0).tobytes() for k in range(10)}) > 1
