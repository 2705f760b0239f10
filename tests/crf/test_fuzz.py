"""Whatever is passed to the CRF: a CrispmaskError of one sentence, or finite marginals that sum to one; no crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispmask import CRFParams, refine
from crispmask.crf import Bilateral, DenseCRF, Gaussian, Kernel, PermutohedralLattice, two_label_marginals
from crispmask.errors import CrispmaskError

pytestmark = pytest.mark.slow
FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
BANDWIDTHS = st.one_of(st.floats(0.5, 80), st.sampled_from([0.0, -1.0, 1e-30, 1e-3, 1e30, float("nan"), float("inf")]))
WEIGHTS = st.one_of(st.floats(0, 10), st.sampled_from([0.0, -1.0, 1e9, 1e30, float("nan"), float("inf")]))
DTYPES = st.sampled_from([np.uint8, np.float32, np.float64, np.float16, np.int64, bool])
LAYOUTS = st.sampled_from(["C", "F", "strided", "reversed", "frozen"])
NORMALIZATIONS = st.sampled_from(["none", "before", "after", "symmetric"])
# One pixel, one row, one column, and small images.
GRIDS = st.one_of(
    st.sampled_from([(1, 1), (1, 17), (17, 1), (2, 3)]), st.tuples(st.integers(1, 12), st.integers(1, 12))
)


@st.composite
def arrays(draw: Any, shape: tuple[int, ...], dtypes: Any = DTYPES) -> np.ndarray:
    """Noise, a constant, or huge coordinates, in any dtype and layout; now and then a wild number or a wrong shape."""
    if draw(st.integers(0, 14)) == 0:
        shape = tuple(max(0, n + draw(st.integers(-1, 1))) for n in shape)
    kind = draw(st.sampled_from(["noise", "noise", "constant", "huge"]))
    scale = {"noise": 60.0, "constant": 0.0, "huge": 1e12}[kind]
    values = np.random.default_rng(draw(st.integers(0, 99))).normal(100, scale, shape)
    if values.size and draw(st.integers(0, 3)) == 0:
        values.flat[draw(st.integers(0, values.size - 1))] = draw(FLOATS)
    with np.errstate(all="ignore"):
        values = values.astype(draw(dtypes))
    layout = draw(LAYOUTS)
    if layout == "F":
        return np.asfortranarray(values)
    if layout == "strided":
        return np.repeat(values, 2, axis=-1)[..., ::2]
    if layout == "reversed":
        return values[..., ::-1]
    values.flags.writeable = layout != "frozen"
    return values


def check_sentence(error: CrispmaskError) -> None:
    assert str(error)
    assert "\n" not in str(error)


def check_many(examine: Callable[[Any], bool], examples: int, least: int) -> None:
    """Run a check on drawn input; it says whether the input was accepted, which must be so `least` times.

    Otherwise a check whose input is always refused would pass.
    """
    accepted = []

    @settings(max_examples=examples, deadline=None)
    @given(st.data())
    def run(data: Any) -> None:
        accepted.append(examine(data))

    run()
    assert sum(accepted) >= least


def test_image_crf() -> None:
    check_many(image_crf_is_accepted, examples=150, least=5)


def image_crf_is_accepted(data: Any) -> bool:
    grid = data.draw(GRIDS)
    count, channels = data.draw(st.sampled_from([1, 2, 2, 3, 9])), data.draw(st.integers(1, 4))
    common = {"normalization": data.draw(NORMALIZATIONS), "self_term": data.draw(st.booleans())}
    try:
        image = data.draw(arrays((*grid, channels)))
        kernels = [
            Bilateral(image, data.draw(BANDWIDTHS), data.draw(BANDWIDTHS), data.draw(WEIGHTS), **common),
            Gaussian(data.draw(BANDWIDTHS), data.draw(WEIGHTS), **common),
        ]
        unary = data.draw(arrays((count, *grid)))
        result = DenseCRF(unary, kernels).run(data.draw(st.integers(0, 3)), track=data.draw(st.booleans()))
    except CrispmaskError as error:
        check_sentence(error)
        return False
    assert np.isfinite(result.marginals).all()
    np.testing.assert_allclose(result.marginals.sum(axis=0), 1, atol=1e-4)
    assert result.kl is None or np.isfinite(result.kl).all()
    return True


def test_points() -> None:
    check_many(points_is_accepted, examples=100, least=5)


def points_is_accepted(data: Any) -> bool:
    d, n = data.draw(st.sampled_from([1, 2, 3, 7, 16, 17])), data.draw(st.sampled_from([1, 2, 30]))
    try:
        features = data.draw(arrays((d, n))) / data.draw(st.sampled_from([1.0, 30.0]))
        kernel = Kernel(features, data.draw(WEIGHTS), normalization=data.draw(NORMALIZATIONS))
        marginals = two_label_marginals(data.draw(arrays((1, n))), [kernel], 2).ravel()
        lattice = PermutohedralLattice(features)
        filtered = lattice.filter(np.ones((1, n), np.float32))
    except CrispmaskError as error:
        check_sentence(error)
        return False
    assert np.isfinite(marginals).all()
    assert ((marginals >= 0) & (marginals <= 1)).all()
    assert np.isfinite(filtered).all()
    assert (filtered > 0).all()
    assert ((lattice.corners >= 0) & (lattice.corners < lattice.vertices)).all()
    return True


def test_refine() -> None:
    check_many(refine_is_accepted, examples=100, least=5)


def refine_is_accepted(data: Any) -> bool:
    height, width = data.draw(GRIDS)
    theta = st.floats(0.5, 40)
    try:
        image = data.draw(arrays((height, width, 3), st.just(np.uint8)))
        masks = data.draw(arrays((2, height, width), st.sampled_from([bool, np.float32])))
        if masks.dtype == np.float32 and data.draw(st.booleans()):
            masks = np.abs(masks) % 1
        params = CRFParams(theta_beta=data.draw(theta), theta_gamma=data.draw(theta), iterations=2)
        refined = refine(image, masks, params)
    except CrispmaskError as error:
        check_sentence(error)
        return False
    assert np.shape(refined) == masks.shape
    assert np.isfinite(refined).all()
    assert ((refined >= 0) & (refined <= 1)).all()
    return True
