"""The lattice against the published construction, its own dense matrix, and the original library."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crispmask.crf import PermutohedralLattice
from crispmask.crf import lattice as module
from crispmask.errors import CrispmaskError, ShapeError, ValueRangeError


def textbook_filter(features: np.ndarray, values: np.ndarray, *, reverse: bool = False) -> np.ndarray:
    """The lattice filter with dictionaries, point by point; float32 where rounding decides on ties."""
    f32 = np.float32
    d, n = features.shape
    scale = module._scale(d)
    splatted: dict[tuple[int, ...], np.ndarray] = {}
    places = []
    for i in range(n):
        e = np.zeros(d + 1, f32)
        total = f32(0)
        for j in range(d, 0, -1):
            g = f32(features[j - 1, i] * scale[j - 1])
            e[j] = f32(total - f32(f32(j) * g))
            total = f32(total + g)
        e[0] = total
        v = np.rint(e * f32(1 / (d + 1)))
        c = (v * (d + 1)).astype(int)
        q = e - c.astype(f32)
        rank = [sum(q[k] > q[j] for k in range(d + 1)) + sum(q[k] == q[j] for k in range(j)) for j in range(d + 1)]
        rank = [int(r + v.sum()) for r in rank]
        for j in range(d + 1):
            shift = (d + 1) * ((rank[j] < 0) - (rank[j] > d))
            rank[j] += shift
            c[j] += shift
        b = np.zeros(d + 2, f32)
        for j in range(d + 1):
            z = f32((e[j] - f32(c[j])) * f32(1 / (d + 1)))
            b[d - rank[j]] += z
            b[d + 1 - rank[j]] -= z
        b[0] += f32(1) + b[d + 1]
        for m in range(d + 1):
            vertex = tuple(int(c[j] + m - (d + 1) * (rank[j] > d - m)) for j in range(d + 1))
            splatted[vertex] = splatted.get(vertex, 0) + float(b[m]) * values[:, i]
            places.append((i, vertex, float(b[m])))
    for j in reversed(range(d + 1)) if reverse else range(d + 1):
        blurred = {}
        for vertex, value in splatted.items():
            back = tuple(x - 1 + (d + 1) * (k == j) for k, x in enumerate(vertex))
            forth = tuple(x + 1 - (d + 1) * (k == j) for k, x in enumerate(vertex))
            blurred[vertex] = value + 0.5 * (splatted.get(back, 0) + splatted.get(forth, 0))
        splatted = blurred
    out = np.zeros(values.shape)
    for i, vertex, weight in places:
        out[:, i] += weight * splatted[vertex] / (1 + 2.0**-d)
    return out


def features_of(rng: np.random.Generator, d: int, n: int, kind: str) -> np.ndarray:
    features = rng.normal(size=(d, n)) * 2
    if kind == "ties":
        features = np.round(features)
    elif kind == "chain":  # neighbours that share simplices, as pixels do
        features = np.cumsum(rng.normal(size=(d, n)) * 0.2, axis=1)
    return features.astype(np.float32)


@pytest.mark.parametrize("d", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("kind", ["random", "ties", "chain"])
@pytest.mark.parametrize("n", [1, 30, 600])
def test_equals_the_textbook_construction(d: int, kind: str, n: int) -> None:
    rng = np.random.default_rng(d * 1000 + n)
    features = features_of(rng, d, n, kind)
    values = rng.normal(size=(2, n)).astype(np.float32)
    lattice = PermutohedralLattice(features)
    np.testing.assert_allclose(lattice.filter(values), textbook_filter(features, values), rtol=1e-4, atol=2e-5)
    expected = textbook_filter(features, values, reverse=True)
    np.testing.assert_allclose(lattice.transpose_filter(values), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("d", [1, 2, 3, 5, 7, 16])
@pytest.mark.parametrize("kind", ["random", "ties", "chain"])
def test_dense_matrix_transpose_and_diagonal(d: int, kind: str) -> None:
    rng = np.random.default_rng(d)
    features = features_of(rng, d, 90, kind)
    lattice = PermutohedralLattice(features)
    identity = np.eye(90, dtype=np.float32)
    matrix = lattice.filter(identity).T
    np.testing.assert_allclose(lattice.transpose_filter(identity).T, matrix.T, atol=1e-6)
    np.testing.assert_allclose(lattice.diagonal(), np.diag(matrix), atol=1e-6)
    assert (matrix >= -1e-6).all()  # weights of points on a facet round to a hair below zero


def test_approximates_the_gaussian() -> None:
    """On features as dense as a photo's, the normalised response is near the exact one."""
    rng = np.random.default_rng(0)
    features = rng.uniform(0, 2, size=(2, 800)).astype(np.float32)
    values = rng.random((1, 800), dtype=np.float32)
    distance = ((features[:, :, None] - features[:, None]) ** 2).sum(axis=0)
    exact = np.exp(-0.5 * distance)
    lattice = PermutohedralLattice(features)
    response = lattice.filter(values)[0] / lattice.filter(np.ones_like(values))[0]
    assert abs(response - exact @ values[0] / exact.sum(axis=1)).max() < 0.02


def test_two_words_of_key_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Widely spread features need keys of several words; forcing them gives the same bits."""
    rng = np.random.default_rng(1)
    features = features_of(rng, 3, 500, "random")
    values = rng.normal(size=(1, 500)).astype(np.float32)
    expected = PermutohedralLattice(features).filter(values)
    pack = module._packing

    def wide(array: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (strides,), _ = pack(array, scale)
        words = np.stack([np.where(np.arange(4) < 2, strides, 0), np.where(np.arange(4) == 2, 1, 0)])
        return words, words.sum(axis=1, keepdims=True) - 4 * words

    monkeypatch.setattr(module, "_packing", wide)
    assert (PermutohedralLattice(features).filter(values) == expected).all()


def test_the_hash_table_grows() -> None:
    """Noise fills d + 1 vertices per point, many times the table's first size."""
    rng = np.random.default_rng(2)
    features = (rng.normal(size=(5, 20_000)) * 100).astype(np.float32)
    lattice = PermutohedralLattice(features)
    assert lattice.vertices > 100_000
    # Isolated points keep their own value only.
    ones = lattice.filter(np.ones((1, 20_000), np.float32))[0]
    np.testing.assert_allclose(np.median(ones / lattice.diagonal()), 1, atol=1e-3)


def test_filter_is_linear_and_works_in_place() -> None:
    rng = np.random.default_rng(3)
    lattice = PermutohedralLattice(features_of(rng, 5, 300, "chain"))
    values = rng.normal(size=(3, 300)).astype(np.float32)
    out = np.full_like(values, np.nan)
    result = lattice.filter(values, out=out)
    assert result is out
    np.testing.assert_allclose(lattice.filter(2 * values - values[::-1]), 2 * out - out[::-1], atol=1e-4)
    inplace = values.copy()
    assert (lattice.filter(inplace, out=inplace) == out).all()


@pytest.mark.parametrize(("lanes", "blocks"), [(8, 1), (16, 1), (16, 2), (24, 3)])
@pytest.mark.parametrize("d", [2, 5])
def test_blurring_channels_together_equals_one_by_one(lanes: int, blocks: int, d: int) -> None:
    """The same bits, however many at a time; missing vertices stay zero and nothing else is touched."""
    from crispmask.crf import _lattice_filters as kernels

    rng = np.random.default_rng(lanes)
    lattice = PermutohedralLattice(features_of(rng, d, 200, "chain"))
    values = rng.normal(size=(lattice.vertices + 1, lanes)).astype(np.float32)
    values[-1] = 0
    guarded = np.full((2, values.size + 16), np.float32(7))
    together = guarded[:, : values.size]
    together[0] = values.ravel()
    kernels.blur_lanes(blocks)(lanes, together[0], together[1], lattice.around, 0, lattice.vertices)
    assert (guarded[:, values.size :] == 7).all()
    for lane in range(lanes):
        single = np.stack([values[:, lane], values[:, lane]])
        kernels.blur(1)(single[0], single[1], lattice.around, 0, lattice.vertices)
        result = (d + 1) % 2
        assert (together[result].reshape(values.shape)[:, lane] == single[result]).all()


def test_same_bits_from_any_number_of_threads() -> None:
    rng = np.random.default_rng(4)
    lattice = PermutohedralLattice(features_of(rng, 5, 3000, "chain"))
    values = [rng.normal(size=(2, 3000)).astype(np.float32) for _ in range(8)]
    expected = [lattice.filter(v) for v in values]
    for threads in (2, 8):
        with ThreadPoolExecutor(threads) as pool:
            for got, want in zip(pool.map(lattice.filter, values), expected, strict=True):
                assert (got == want).all()


@pytest.mark.needs("pydensecrf")
@pytest.mark.parametrize("n", [1, 3, 5, 64, 1001])
@pytest.mark.parametrize("d", [1, 2, 3, 5, 7])
def test_agrees_with_pydensecrf(d: int, n: int) -> None:
    from pydensecrf import densecrf

    rng = np.random.default_rng(n + d)
    features = features_of(rng, d, n, "random" if n != 64 else "ties")
    unary = rng.normal(size=(3, n)).astype(np.float32)
    model = densecrf.DenseCRF(n, 3)
    model.setUnaryEnergy(unary)
    model.addPairwiseEnergy(features, compat=1, normalization=0)
    q, first, second = model.startInference()
    start = np.array(q)
    model.stepInference(q, first, second)
    logits = PermutohedralLattice(features, phantom=True).filter(start) - unary
    expected = np.exp(logits - logits.max(axis=0))
    expected /= expected.sum(axis=0)
    np.testing.assert_allclose(np.array(q), expected, atol=3e-5)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int32, np.uint8]),
        st.tuples(st.sampled_from([1, 2, 5]), st.integers(1, 40)),
        elements={"allow_nan": False, "allow_infinity": False, "min_value": 0, "max_value": 200},
    ),
    st.floats(1e-30, 1e30),
)
def test_any_finite_features_are_filtered_or_refused(features: np.ndarray, factor: float) -> None:
    scaled = features.astype(np.float64) * factor
    with np.errstate(over="ignore"):
        scaled = scaled[:, ::-1].astype(np.float32)  # a negative stride, and infinity where it does not fit
    try:
        lattice = PermutohedralLattice(scaled)
    except CrispmaskError:
        assert not np.isfinite(scaled).all() or abs(scaled).max() > 1e4
        return
    out = lattice.filter(np.ones((1, scaled.shape[1]), np.float32))
    assert np.isfinite(out).all()
    assert (out > 0).all()
    assert (lattice.corners >= 0).all()
    assert (lattice.corners < lattice.vertices).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_features_that_cannot_be_placed(bad: float) -> None:
    features = np.zeros((2, 5), np.float32)
    features[1, 3] = bad
    with pytest.raises(ValueRangeError, match="features"):
        PermutohedralLattice(features)


@pytest.mark.parametrize("shape", [(0, 5), (65, 5), (3, 0), (5,), (2, 3, 4)])
def test_shapes_that_are_no_features(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="features"):
        PermutohedralLattice(np.zeros(shape, np.float32))


def test_values_must_fit() -> None:
    lattice = PermutohedralLattice(np.zeros((2, 5), np.float32))
    with pytest.raises(ShapeError, match="values"):
        lattice.filter(np.zeros((1, 4), np.float32))
    with pytest.raises(ShapeError, match="out"):
        lattice.filter(np.zeros((1, 5), np.float32), out=np.zeros((1, 5)))
