"""The matrix wrappers: a live, writable, column-major buffer, and an ndarray to everybody who asks."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from crispmask.pydensecrf.eigen import MatrixXf, VectorXf, matrixXf, vectorXf


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)


def test_empty() -> None:
    assert np.asarray(MatrixXf()).shape == np.asarray(MatrixXf(3, 4)).shape == (0, 0)
    assert np.asarray(VectorXf()).shape == (0,)


def test_copied_on_the_way_in(values: np.ndarray) -> None:
    expected = values.copy()
    matrix, vector = matrixXf(values), vectorXf(values[0])
    values[:] = 0
    np.testing.assert_array_equal(matrix, expected)
    np.testing.assert_array_equal(vector, expected[0])


def test_array_copies_and_asarray_does_not(values: np.ndarray) -> None:
    matrix = matrixXf(values)
    independent, view, wide = np.array(matrix), np.asarray(matrix), np.array(matrix, dtype=np.float64)
    for array in (independent, view, wide):
        assert type(array) is np.ndarray
        assert array.shape == (3, 5)
        assert array.flags.f_contiguous
    view[1, 2] = 99
    assert np.array(matrix)[1, 2] == 99
    np.testing.assert_array_equal(independent, values)
    assert wide.dtype == np.float64


def test_buffer(values: np.ndarray) -> None:
    buffer = memoryview(matrixXf(values))
    assert (buffer.format, buffer.shape, buffer.strides) == ("f", (3, 5), (4, 12))
    assert not buffer.readonly
    assert memoryview(vectorXf(values[0])).shape == (5,)


def test_results_are_plain(values: np.ndarray) -> None:
    """A row or an argmax is no MatrixXf; pickling it must not need crispmask."""
    q = matrixXf(values)
    for result, expected in [
        (np.argmax(q, axis=0), values.argmax(axis=0)),
        (q.argmax(axis=0), values.argmax(axis=0)),
        (np.sum(q, axis=0), values.sum(axis=0)),
        (np.transpose(q), values.T),
        (q.T, values.T),
        (np.reshape(q, (5, 3)), values.reshape(5, 3)),
        (q.reshape(-1), values.reshape(-1)),
        (q[1], values[1]),
        (q[:, 2:4], values[:, 2:4]),
        (q + 1, values + 1),
        (q > 0, values > 0),
        (np.exp(q), np.exp(values)),
        (next(iter(q)), values[0]),
    ]:
        assert type(result) is np.ndarray
        np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert type(q.max()) is np.float32
    assert len(q) == 3


def test_in_place_operations_keep_the_matrix(values: np.ndarray) -> None:
    q = matrixXf(values)
    same = q
    q *= 2
    assert q is same
    q[0] = 1
    np.testing.assert_array_equal(np.asarray(same)[1:], 2 * values[1:])
    assert (np.asarray(same)[0] == 1).all()


@pytest.mark.parametrize("duplicate", [lambda q: pickle.loads(pickle.dumps(q)), copy.copy, copy.deepcopy])
def test_duplicates(values: np.ndarray, duplicate: Any) -> None:
    for original in (matrixXf(values), vectorXf(values[0])):
        other = duplicate(original)
        assert type(other) is type(original)
        np.testing.assert_array_equal(other, original)
        assert other.flags.f_contiguous
        other[0] = 7
        assert not (np.asarray(original)[0] == 7).all()


@pytest.mark.parametrize("make", [matrixXf, vectorXf])
@pytest.mark.parametrize("wrong", [None, [[1.0]], "text", 3])
def test_type_errors(make: Any, wrong: Any) -> None:
    with pytest.raises(TypeError):
        make(wrong)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 3)), np.zeros((2, 3), np.int32), np.zeros(3, np.float32), np.zeros((1, 2, 3), np.float32)]
)
def test_value_errors(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"float32|dimensions"):
        matrixXf(wrong)
    with pytest.raises(ValueError, match=r"float32|dimensions"):
        vectorXf(wrong.reshape(1, -1))
