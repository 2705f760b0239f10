"""Masks to probabilities to energies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, softmax

from crispmask.refinement.unary import is_binary, log_odds, soften, unary_energies

maps = hnp.arrays(np.float32, (7, 9), elements=st.floats(0, 1, width=32))


def disc(radius, size=200):
    y, x = np.mgrid[:size, :size] - size / 2
    return (x**2 + y**2 < radius**2).astype(np.float32)


def test_softening_is_sure_in_the_middle_and_open_at_the_edge():
    mask = disc(50)
    soft = soften(mask, 0.03)
    assert soft[100, 100] > 0.999
    assert (soft[100, 149] + soft[100, 150]) / 2 == pytest.approx(0.5, abs=0.05)  # the edge runs between them
    assert soft[5, 5] < 1e-3


def test_the_open_band_grows_with_the_mask():
    def band(radius):
        soft = soften(disc(radius), 0.03)
        return ((soft > 0.1) & (soft < 0.9))[100].sum() / 2

    assert band(80) == pytest.approx(2 * band(40), rel=0.2)


def test_one_pixel_stays_itself():
    mask = np.zeros((5, 5), np.float32)
    mask[2, 2] = 1
    assert soften(mask, 0.03) is mask


@settings(max_examples=50, deadline=None)
@given(maps, st.floats(0, 0.5))
def test_softened_values_are_probabilities(probabilities, factor):
    soft = soften(probabilities, factor)
    assert soft.dtype == np.float32
    assert soft.min() >= 0
    assert soft.max() <= 1


@settings(max_examples=50, deadline=None)
@given(maps, st.floats(0.6, 0.999))
def test_log_odds_invert_to_clipped_probabilities(probabilities, confidence):
    odds = log_odds(probabilities, confidence)
    assert np.isfinite(odds).all()
    np.testing.assert_allclose(expit(odds), np.clip(probabilities, 1 - confidence, confidence), atol=1e-5)


def test_energies_of_one_object_give_back_its_probability():
    p = np.array([[0.2, 0.5], [0.9, 0.6]], np.float32)
    marginals = softmax(-unary_energies(log_odds(p, 0.999)[None]), axis=0)
    np.testing.assert_allclose(marginals[1], p, atol=1e-6)


def test_energies_of_several_keep_their_odds():
    odds = np.array([[[1.0]], [[2.0]]], np.float32)
    marginals = softmax(-unary_energies(odds), axis=0)[:, 0, 0]
    np.testing.assert_allclose(np.log(marginals[1:] / marginals[0]), [1.0, 2.0], atol=1e-6)


def test_is_binary():
    assert is_binary(np.array([[0, 1]], np.float32))
    assert not is_binary(np.array([[0, 0.5]], np.float32))
