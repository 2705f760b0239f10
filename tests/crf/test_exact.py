"""The oracle itself: against sums written out, and the guarantee of sequential updates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispmask.crf import Bilateral, DenseCRF, Gaussian, Kernel, exact


def test_kernel_matrix_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 4, 3), np.uint8)
    matrix = exact.kernel_matrix(Bilateral(image, 7, 30, 1).features((3, 4)))
    colours = image.reshape(-1, 3).astype(float)
    for i in range(12):
        for j in range(12):
            (y, x), (v, u) = divmod(i, 4), divmod(j, 4)
            position = (y - v) ** 2 + (x - u) ** 2
            colour = ((colours[i] - colours[j]) ** 2).sum()
            assert matrix[i, j] == pytest.approx(np.exp(-position / (2 * 49) - colour / (2 * 900)), rel=1e-5)


def test_message_matrix_normalises_with_the_own_term_and_then_leaves_it_out() -> None:
    kernel = Kernel([[0.0, 0.5, 3.0]], 2.0, normalization="after", self_term=False)
    near, far, farther = np.exp([-0.125, -3.125, -4.5])
    expected = [near / (1 + near + farther), near / (1 + near + far), far / (1 + far + farther)]
    matrix = exact.message_matrix(kernel, (3,))
    np.testing.assert_allclose([matrix[0, 1], matrix[1, 0], matrix[2, 1]], 2 * np.array(expected), rtol=1e-6)
    assert (np.diag(matrix) == 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.floats(0, 20), st.sampled_from(["none", "symmetric"]))
def test_sequential_updates_never_raise_the_kl(seed: int, labels: int, weight: float, normalization: str) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (5, 6, 3), np.uint8)
    unary = rng.normal(size=(labels, 5, 6)) * 2
    options = {"normalization": normalization, "self_term": False}
    crf = DenseCRF(unary, [Bilateral(image, 3, 60, weight, **options), Gaussian(1, weight / 3, **options)])
    kl = exact.run(crf, 6, track=True, sequential=True).kl
    assert kl is not None
    assert (np.diff(kl) <= 1e-9 * (1 + abs(kl[0]))).all()


def test_updates_agree_at_the_fixed_point() -> None:
    """Weak coupling has one fixed point, which both orders of updates find."""
    rng = np.random.default_rng(1)
    crf = DenseCRF(rng.normal(size=(3, 6, 6)), [Gaussian(1.0, 0.3, self_term=False)])
    parallel, sequential = exact.run(crf, 60), exact.run(crf, 60, sequential=True)
    np.testing.assert_allclose(parallel.marginals, sequential.marginals, atol=1e-6)
    assert parallel.kl is None
