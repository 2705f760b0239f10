"""Numbers: the drop-in against pydensecrf itself where it is installed, and against its recorded answers everywhere."""

from __future__ import annotations

import runpy
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import crispmask.pydensecrf.densecrf as dcrf
from crispmask.pydensecrf import eigen, utils

HERE = Path(__file__).parent
cases = SimpleNamespace(**runpy.run_path(str(HERE / "cases.py")))
RECORDED = np.load(HERE / "recorded.npz")


@pytest.fixture(scope="module")
def original() -> ModuleType:
    return import_module("pydensecrf.densecrf")


@pytest.fixture(scope="module")
def original_eigen(original: ModuleType) -> ModuleType:
    return import_module("pydensecrf.eigen")


@pytest.fixture(scope="module")
def original_utils(original: ModuleType) -> ModuleType:
    return import_module("pydensecrf.utils")


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Ten times closer than the bar of 0.01; labels equal wherever the decision is not a tie within that."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == np.float32
    assert np.abs(ours - theirs).max() <= 1e-3
    assert (ours.argmax(axis=0) == theirs.argmax(axis=0)).mean() >= 0.999


@pytest.mark.parametrize("name", RECORDED.files)
def test_recorded_answers(name: str) -> None:
    ours, theirs = cases.recorded(dcrf)[name](), RECORDED[name]
    if name == "divergences":
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-2)
    else:
        assert_same(ours, theirs)


def test_the_records_hold_every_case() -> None:
    assert set(RECORDED.files) == set(cases.recorded(dcrf))


@pytest.mark.needs("pydensecrf")
@pytest.mark.parametrize("normalization", cases.NORMALIZATIONS)
@pytest.mark.parametrize("compat", cases.COMPATIBILITIES)
@pytest.mark.parametrize("n_labels", cases.LABELS)
@pytest.mark.parametrize("size", cases.SIZES)
def test_grid(original: ModuleType, size: tuple[int, int], n_labels: int, compat: str, normalization: str) -> None:
    case = (*size, n_labels, compat, normalization)
    assert_same(cases.grid(dcrf, *case), cases.grid(original, *case))


@pytest.mark.needs("pydensecrf")
@pytest.mark.parametrize("normalization", cases.NORMALIZATIONS)
@pytest.mark.parametrize("size", [1, 4, 101, 502])
@pytest.mark.parametrize("d", cases.DIMENSIONS)
def test_features(original: ModuleType, d: int, size: int, normalization: str) -> None:
    assert_same(cases.features(dcrf, d, size, normalization), cases.features(original, d, size, normalization))


@pytest.mark.needs("pydensecrf")
@pytest.mark.parametrize("normalization", ["NO_NORMALIZATION", "NORMALIZE_SYMMETRIC"])
@pytest.mark.parametrize(("name", "n_labels"), [("astronaut", 2), ("coffee", 2), ("chelsea", 5), ("rocket", 3)])
def test_photos(original: ModuleType, name: str, n_labels: int, normalization: str) -> None:
    from skimage import data

    image = np.ascontiguousarray(getattr(data, name)()[100:271, 80:301])
    # Without normalisation messages grow with the number of similar pixels, thus the small weight.
    compat = 8 if normalization == "NORMALIZE_SYMMETRIC" else 0.01
    ours = cases.photo(dcrf, image, n_labels, normalization, compat)
    assert_same(ours, cases.photo(original, image, n_labels, normalization, compat))
    labels = ours.argmax(axis=0)
    assert len(np.unique(labels)) > 1  # a picture of one label would agree with anything


@pytest.mark.needs("pydensecrf")
def test_text_mask_settings(original: ModuleType, astronaut: np.ndarray) -> None:
    """The settings of text-mask refinement, where raw messages reach thousands."""

    def run(module: ModuleType) -> np.ndarray:
        image = np.ascontiguousarray(astronaut[:200, 150:351])
        inside = (image.mean(axis=2) > 110).ravel()
        p = np.where(inside, 0.9, 0.1)
        crf = module.DenseCRF2D(201, 200, 2)
        crf.setUnaryEnergy(-np.log(np.stack([1 - p, p])).astype(np.float32))
        crf.addPairwiseGaussian(sxy=1, compat=3, kernel=module.DIAG_KERNEL, normalization=module.NO_NORMALIZATION)
        crf.addPairwiseBilateral(
            sxy=23, srgb=7, rgbim=image, compat=20, kernel=module.DIAG_KERNEL, normalization=module.NO_NORMALIZATION
        )
        return np.array(crf.inference(5))

    assert_same(run(dcrf), run(original))


@pytest.mark.needs("pydensecrf")
@pytest.mark.parametrize("sxy", [3, 2.5, np.float64(1.5), (2, 7), [7.0, 2.0], np.array([3, 4]), -4, 1e8, 0.3])
def test_deviations(original: ModuleType, sxy: Any) -> None:
    def run(module: ModuleType) -> np.ndarray:
        rng = np.random.default_rng(3)
        crf = module.DenseCRF2D(13, 10, 3)
        crf.setUnaryEnergy(rng.normal(size=(3, 130)).astype(np.float32))
        crf.addPairwiseGaussian(sxy, 4)
        crf.addPairwiseBilateral(sxy, (9, 80, 31.5), rng.integers(0, 256, (10, 13, 3), dtype=np.uint8), 2)
        return np.array(crf.inference(4))

    assert_same(run(dcrf), run(original))


@pytest.mark.needs("pydensecrf")
@pytest.mark.parametrize("kind", ["const", "logistic", "energy times f", "bare", "none"])
def test_unary_kinds(original: ModuleType, kind: str) -> None:
    def run(module: ModuleType) -> np.ndarray:
        rng = np.random.default_rng(5)
        crf = module.DenseCRF(30, 4)
        u = rng.normal(size=(4, 30)).astype(np.float32)
        if kind == "const":
            crf.setUnary(module.ConstUnary(u))
        elif kind == "logistic":
            crf.setUnary(module.LogisticUnary(u[:, :6].copy(), rng.normal(size=(6, 30)).astype(np.float32)))
        elif kind == "energy times f":
            crf.setUnaryEnergy(u, rng.normal(size=(30, 30)).astype(np.float32))
        elif kind == "bare":
            crf.setUnary(module.Unary())
        crf.addPairwiseEnergy(rng.normal(size=(2, 30)).astype(np.float32), compat=3)
        return np.array(crf.inference(5))

    assert_same(run(dcrf), run(original))


@pytest.mark.needs("pydensecrf")
@pytest.mark.parametrize("n_labels", [1, 2, 5])
@pytest.mark.parametrize("given", [False, True])
def test_steps_and_divergence(original: ModuleType, original_eigen: ModuleType, n_labels: int, given: bool) -> None:
    """Also with a Q of the client's own, which is not normalised."""

    def run(module: ModuleType, matrices: ModuleType) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(n_labels)
        crf = module.DenseCRF2D(9, 11, n_labels)
        crf.setUnaryEnergy(rng.normal(size=(n_labels, 99)).astype(np.float32))
        crf.addPairwiseGaussian(2, 3)
        crf.addPairwiseEnergy(
            rng.normal(size=(3, 99)).astype(np.float32), rng.normal(size=(n_labels, n_labels)).astype(np.float32)
        )
        q, first, second = crf.startInference()
        if given:
            q = matrices.matrixXf(rng.uniform(0, 2, (n_labels, 99)).astype(np.float32))
        states, values = [np.array(q)], [crf.klDivergence(q)]
        for _ in range(4):
            crf.stepInference(q, first, second)
            states.append(np.array(q))
            values.append(crf.klDivergence(q))
        return np.array(states), np.array(values)

    (ours, our_values), (theirs, their_values) = run(dcrf, eigen), run(original, original_eigen)
    for a, b in zip(ours, theirs, strict=True):
        assert_same(a, b)
    np.testing.assert_allclose(our_values, their_values, rtol=2e-5, atol=2e-3)


@pytest.mark.needs("pydensecrf")
def test_infinite_energies(original: ModuleType) -> None:
    """Infinity forbids a label; a pixel where all are forbidden is NaN and spreads, as in the original."""

    def run(module: ModuleType, blocked: int, n_labels: int) -> np.ndarray:
        u = np.random.default_rng(1).normal(size=(n_labels, 60)).astype(np.float32)
        u[:blocked, ::7] = np.inf
        crf = module.DenseCRF(60, n_labels)
        crf.setUnaryEnergy(u)
        crf.addPairwiseEnergy(np.linspace(-9, 9, 60, dtype=np.float32).reshape(1, -1), 2)
        return np.array(crf.inference(1))

    for n_labels in (2, 3):
        assert_same(run(dcrf, 1, n_labels), run(original, 1, n_labels))
        ours, theirs = run(dcrf, n_labels, n_labels), run(original, n_labels, n_labels)
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))


@pytest.mark.needs("pydensecrf")
@pytest.mark.parametrize("seed", range(5))
def test_utils_bit_for_bit(original_utils: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(4), (5, 6)).transpose(2, 0, 1)
    labels = rng.integers(0, 5, (5, 6))
    image = rng.normal(size=(3, 5, 6, 2))
    for name, args, kwargs in [
        ("unary_from_labels", (labels, 4, 0.7), {}),
        ("unary_from_labels", (labels, 5, 0.9), {"zero_unsure": False}),
        ("unary_from_softmax", (p,), {}),
        ("unary_from_softmax", (p.astype(np.float32),), {"scale": 0.8}),
        ("unary_from_softmax", (p.astype(np.float16),), {"clip": 0.01}),
        ("unary_from_softmax", (p,), {"scale": 0.5, "clip": None}),
        ("compute_unary", (labels, 4), {}),
        ("softmax_to_unary", (p,), {"GT_PROB": 0.6}),
        ("softmax_to_unary", (p,), {}),
        ("create_pairwise_gaussian", ((3, 1.5), (5, 6)), {}),
        ("create_pairwise_gaussian", (np.array([3, 1.5, 0.7]), (5, 6, 2)), {}),
        ("create_pairwise_gaussian", ((3,), (5, 6)), {}),
        ("create_pairwise_bilateral", ((2, 3), 0.3, labels), {}),
        ("create_pairwise_bilateral", ((2, 3, 4), (0.3, 5), image), {"chdim": 3}),
        ("create_pairwise_bilateral", ((2, 3, 4), (0.3, 5, 6), image), {"chdim": 0}),
        ("create_pairwise_bilateral", ((2,), (0.3,), image), {"chdim": -2}),
    ]:
        ours, theirs = getattr(utils, name)(*args, **kwargs), getattr(original_utils, name)(*args, **kwargs)
        assert ours.dtype == theirs.dtype == np.float32
        assert ours.flags.c_contiguous == theirs.flags.c_contiguous, name
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
