"""The separable smoothness filter against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest

from crispmask.crf import GaussianFilter
from crispmask.crf.normalization import Normalization
from crispmask.errors import CrispmaskError, ShapeError

SHAPES = [(1, 1), (1, 7), (5, 1), (30, 40), (3, 50)]


def band(length: int, theta: float) -> np.ndarray:
    distance = abs(np.subtract.outer(np.arange(length), np.arange(length)))
    return np.where(distance <= np.ceil(4 * theta), np.exp(-0.5 * (distance / theta) ** 2), 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("theta", [0.01, 1, 2.5, (1, 30)])
@pytest.mark.parametrize("normalization", ["none", "before", "after", "symmetric"])
def test_equals_the_dense_matrix(shape: tuple[int, int], theta: float, normalization: Normalization) -> None:
    theta_y, theta_x = np.broadcast_to(theta, 2)
    raw = np.kron(band(shape[0], theta_y), band(shape[1], theta_x))
    sums = raw.sum(axis=1)
    matrix = {
        "none": raw,
        "before": raw / sums,
        "after": raw / sums[:, None],
        "symmetric": raw / np.sqrt(np.outer(sums, sums)),
    }[normalization]
    values = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    gaussian = GaussianFilter(shape, theta, normalization)
    expected = (values.reshape(2, -1) @ matrix.T).reshape(values.shape)
    out = np.full_like(values, np.nan)
    assert gaussian.filter(values, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gaussian.diagonal().ravel(), np.diag(matrix), rtol=1e-5)
    assert (gaussian.filter(values, out=values) == out).all()  # in place


def test_the_cut_is_invisible() -> None:
    """Against a Gaussian that is not cut at all."""
    image = np.random.default_rng(1).random((1, 40, 50), dtype=np.float32)
    rows, columns = np.indices((40, 50)).reshape(2, -1)
    distance = np.subtract.outer(rows, rows) ** 2 + np.subtract.outer(columns, columns) ** 2
    matrix = np.exp(-0.5 * distance / 3.0**2)
    expected = (matrix @ image.ravel() / matrix.sum(axis=1)).reshape(40, 50)
    np.testing.assert_allclose(GaussianFilter((40, 50), 3.0, "after").filter(image)[0], expected, atol=1e-4)


@pytest.mark.parametrize("theta", [0, -1, np.nan, np.inf, "wide", (1, 2, 3), (1, 0)])
def test_bandwidths_must_be_positive(theta: object) -> None:
    with pytest.raises(CrispmaskError, match="theta_gamma"):
        GaussianFilter((4, 4), theta)  # type: ignore[arg-type]


def test_shapes_must_fit() -> None:
    with pytest.raises(ShapeError, match="grid"):
        GaussianFilter((0, 4), 1)
    with pytest.raises(ShapeError, match="values"):
        GaussianFilter((4, 4), 1).filter(np.zeros((4, 4)))
    with pytest.raises(ShapeError, match="out"):
        GaussianFilter((4, 4), 1).filter(np.zeros((1, 4, 4)), out=np.zeros((1, 4, 4)))
