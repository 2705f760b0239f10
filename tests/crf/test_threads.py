"""Threads over the strips of one image: the same bits for any number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crispmask.crf import Bilateral, DenseCRF, Gaussian, Kernel, PermutohedralLattice, _threads, two_label_marginals
from crispmask.errors import ValueRangeError


@pytest.fixture
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips as a large image has them, in an image that is quick to do."""
    monkeypatch.setattr(_threads, "_POINTS", 300)


def kernels_of(image: np.ndarray, theta_gamma: Any = 1.0) -> list[Any]:
    return [
        Bilateral(image, 20, 15, 3, self_term=False),
        Gaussian(theta_gamma, 1),
        Bilateral(image, 5, 30, 1, normalization="before"),  # a second lattice, filtered on its own
    ]


@pytest.mark.usefixtures("small_strips")
@pytest.mark.parametrize("labels", [2, 3, 37])
@pytest.mark.parametrize("theta_gamma", [1.0, (9.0, 2.0)])  # the wide one reaches beyond whole strips
def test_same_bits_for_any_number_of_threads(astronaut: np.ndarray, labels: int, theta_gamma: Any) -> None:
    image = astronaut[60:100, 180:225]
    assert len(_threads.strips(*image.shape[:2])) == 4
    unary = np.random.default_rng(labels).normal(size=(labels, 40, 45)).astype(np.float32)
    one, two, eight = (
        DenseCRF(unary, kernels_of(image, theta_gamma)).run(4, threads=threads).marginals for threads in (1, 2, 8)
    )
    assert one.tobytes() == two.tobytes() == eight.tobytes()


@pytest.mark.parametrize("labels", [2, 5])
def test_strips_are_invisible(astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch, labels: int) -> None:
    """Against the image in one piece: only the order of sums differs."""
    image = astronaut[60:100, 180:225]
    unary = np.random.default_rng(labels).normal(size=(labels, 40, 45)).astype(np.float32)
    whole = DenseCRF(unary, kernels_of(image)).run(4).marginals
    monkeypatch.setattr(_threads, "_POINTS", 300)
    striped = DenseCRF(unary, kernels_of(image)).run(4, threads=2).marginals
    np.testing.assert_allclose(striped, whole, atol=2e-5)


@pytest.mark.parametrize(("d", "spread"), [(5, 3.0), (2, 40.0), (12, 1e4)])
def test_a_lattice_built_in_strips_is_the_same_lattice(monkeypatch: pytest.MonkeyPatch, d: int, spread: float) -> None:
    features = (spread * np.random.default_rng(d).random((d, 1501))).astype(np.float32)
    whole = PermutohedralLattice(features)
    monkeypatch.setattr(_threads, "_POINTS", 300)
    values = np.random.default_rng(0).random((2, 1501), dtype=np.float32)
    one, two = (PermutohedralLattice(features, threads=threads) for threads in (1, 3))
    for lattice in (one, two):
        assert lattice.vertices == whole.vertices
        assert (lattice.corners == whole.corners).all()
        assert (lattice.weights == whole.weights).all()
        assert (lattice.around == whole.around).all()
    for reverse in (False, True):
        filters = [lattice.transpose_filter if reverse else lattice.filter for lattice in (one, two)]
        assert filters[0](values).tobytes() == filters[1](values, threads=3).tobytes()
    np.testing.assert_allclose(two.filter(values, threads=3), one.filter(values), rtol=1e-6)


def test_points_without_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last row of the walk is shorter than the others."""
    monkeypatch.setattr(_threads, "_POINTS", 300)
    rng = np.random.default_rng(3)
    features, unary = rng.normal(size=(3, 2500)), rng.normal(size=(2, 2500))
    one, two = (DenseCRF(unary, [Kernel(features, 2)]).run(3, threads=threads).marginals for threads in (1, 2))
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, None])
def test_threads_must_be_a_number_of_threads(bad: Any) -> None:
    image = np.zeros((3, 4, 3), np.uint8)
    for call in (
        lambda: DenseCRF(np.zeros((2, 3, 4)), [Bilateral(image, 1, 1, 1)]).run(threads=bad),
        lambda: two_label_marginals(np.zeros((3, 4), np.float32), [Bilateral(image, 1, 1, 1)], threads=bad),
        lambda: PermutohedralLattice(np.zeros((2, 5), np.float32), threads=bad),
    ):
        with pytest.raises(ValueRangeError, match="threads"):
            call()
