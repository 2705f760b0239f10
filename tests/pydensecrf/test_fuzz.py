"""Whatever is passed: a TypeError, ValueError or IndexError, or finite marginals; never a crash."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import crispmask.pydensecrf.densecrf as dcrf
from crispmask.pydensecrf.eigen import MatrixXf, matrixXf

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
NUMBERS = st.one_of(FLOATS, st.integers(-3, 40), st.floats(0.1, 100), st.just(0), st.none(), st.booleans())
DTYPES = st.sampled_from([np.float32, np.float32, np.float64, np.float16, np.int64, np.uint8, bool, complex])
REFUSALS = (TypeError, ValueError, IndexError)


@st.composite
def arrays(draw: Any, shape: tuple[int, ...], off_by: int = 1) -> np.ndarray:
    """Mostly of `shape`, in any dtype and layout, with a few wild numbers among the tame ones."""
    if draw(st.integers(0, 9)) == 0:
        shape = tuple(max(0, n + draw(st.integers(-off_by, off_by))) for n in shape)
    if draw(st.integers(0, 19)) == 0:
        shape = (*shape, 1)
    values = np.random.default_rng(draw(st.integers(0, 99))).normal(0, 3, shape)
    if values.size and draw(st.integers(0, 3)) == 0:
        values.flat[draw(st.integers(0, values.size - 1))] = draw(FLOATS)
    with np.errstate(all="ignore"):
        values = values.astype(draw(DTYPES))
    layout = draw(st.sampled_from(["C", "F", "strided", "reversed", "frozen"]))
    if layout == "F":
        return np.asfortranarray(values)
    if layout == "strided":
        return np.repeat(values, 2, axis=-1)[..., ::2]
    if layout == "reversed":
        return values[..., ::-1]
    values.flags.writeable = layout != "frozen"
    return values


def check(q: MatrixXf, n_labels: int, size: int, blocked: bool) -> None:
    values = np.asarray(q)
    assert values.shape == (n_labels, size)
    if not blocked:  # infinities and NaN in the unary are the caller's own
        assert np.isfinite(values).all()
        assert np.abs(values.sum(axis=0) - 1).max(initial=0) < 1e-4


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_grid(data: Any) -> None:
    w, h, n_labels = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    model = dcrf.DenseCRF2D(w, h, n_labels)
    blocked = False
    try:
        u = data.draw(arrays((n_labels, w * h)))
        model.setUnaryEnergy(u)
        with np.errstate(all="ignore"):
            blocked = not np.isfinite(u.astype(np.float32)).all()
    except REFUSALS:
        pass
    compat = data.draw(st.one_of(NUMBERS, arrays((n_labels,)), arrays((n_labels, n_labels))))
    normalization = data.draw(st.one_of(st.integers(-1, 5), NUMBERS))
    sxy = data.draw(st.one_of(NUMBERS, st.tuples(NUMBERS, NUMBERS), arrays((2,))))
    srgb = data.draw(st.one_of(NUMBERS, st.tuples(NUMBERS, NUMBERS, NUMBERS), arrays((3,))))
    image = data.draw(st.one_of(arrays((h, w, 3)), st.just(np.full((h, w, 3), 7, np.uint8))))
    for call in (
        lambda: model.addPairwiseGaussian(sxy, compat, 1, normalization),
        lambda: model.addPairwiseBilateral(sxy, srgb, image, compat, 1, normalization),
    ):
        with contextlib.suppress(REFUSALS):
            call()
    check(model.inference(data.draw(st.integers(-1, 4))), n_labels, w * h, blocked)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_features(data: Any) -> None:
    size, d, n_labels = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    model = dcrf.DenseCRF(size, n_labels)
    features = data.draw(arrays((d, size)))
    if data.draw(st.booleans()):
        with np.errstate(all="ignore"):
            features = features * data.draw(st.sampled_from([1, 1e-20, 1e4, 1e10, 1e30]))
    with contextlib.suppress(REFUSALS):
        model.addPairwiseEnergy(features, data.draw(NUMBERS), normalization=data.draw(st.integers(0, 3)))
    check(model.inference(3), n_labels, size, blocked=False)
    q = matrixXf(np.random.default_rng(0).uniform(0, 3, (n_labels, size)).astype(np.float32))
    assert np.isfinite(model.klDivergence(q))
    model.stepInference(q, MatrixXf(), MatrixXf())
    check(q, n_labels, size, blocked=False)


@settings(max_examples=100, deadline=None)
@given(*[st.one_of(NUMBERS, st.text(max_size=2), st.lists(st.integers(), max_size=2))] * 3)
def test_constructors(first: Any, second: Any, third: Any) -> None:
    for make in (lambda: dcrf.DenseCRF(first, second), lambda: dcrf.DenseCRF2D(first, second, third)):
        with contextlib.suppress(REFUSALS):
            make()
