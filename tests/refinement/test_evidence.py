"""Which pixels the CRF takes: what is decided is sampled, and the masks stay the same."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispmask.crf import two_label_marginals
from crispmask.params import CRFParams
from crispmask.refinement.evidence import MOST, counts, may_sample, spacing
from crispmask.refinement.solve import pose
from crispmask.refinement.unary import Unary
from crispmask.refinement.windows import Rect


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.1, 100), st.integers(0, 99))
def test_decided_pixels_stand_for_those_around_them(height: int, width: int, theta_alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    odds = np.clip(rng.normal(0, 3, (height, width)), -3, 3).astype(np.float32)
    taken = counts(odds, 3.0, theta_alpha)
    assert (taken[np.abs(odds) < 3] == 1).all()
    whole = counts(np.full((height, width), -3, np.float32), 3.0, theta_alpha)
    step = spacing(theta_alpha)
    assert step in (1, MOST) or step <= theta_alpha / 4
    assert set(np.unique(whole)) <= {0, step**2}
    rows, columns = (math.ceil(length / step) for length in (height, width))
    assert (whole > 0).sum() == rows * columns  # no stretch of `step` pixels without one
    assert whole.sum() >= height * width


def test_only_where_the_pairwise_terms_are_too_weak_to_change_a_label() -> None:
    assert may_sample(CRFParams(bilateral_weight=3.0))
    assert not may_sample(CRFParams.paper())


@pytest.mark.parametrize("radius", [50, 80])
def test_a_mask_is_the_same_as_with_all_pixels(astronaut: np.ndarray, radius: int) -> None:
    """A rough disk on a photo's object: a few pixels of its edge differ."""
    image = np.ascontiguousarray(astronaut[:300, 100:400])
    y, x = np.mgrid[:300, :300]
    odds = np.clip((radius - np.hypot(y - 120, x - 130)) / 3, -3.5, 3.5).astype(np.float32)
    params = CRFParams(bilateral_weight=3.0, iterations=5)
    unary = Unary(np.clip(odds, -params.limit, params.limit), Rect(0, 0, 300, 300), 2.0 * radius, params, sampled=True)
    some, every = (pose(image, [one]) for one in (unary, replace(unary, sampled=False)))
    assert every.kernels[0].among is None
    sampled, full = (two_label_marginals(problem.odds[0], problem.kernels, 5) > 0.5 for problem in (some, every))
    assert len(some.kernels[0].among.points) < 0.4 * odds.size
    assert (full != (odds > 0)).sum() > 0.02 * full.sum()  # the CRF does something here
    assert (sampled & full).sum() / (sampled | full).sum() > 0.99
