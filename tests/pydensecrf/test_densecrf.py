"""Signatures, errors and habits of the drop-in, from the specification; none of this needs the original."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import crispmask.pydensecrf.densecrf as dcrf
from crispmask.errors import CrispmaskError
from crispmask.pydensecrf.eigen import MatrixXf, matrixXf

H, W, L = 6, 9, 3
N = H * W


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def unary(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 2, (L, N)).astype(np.float32)


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (H, W, 3), dtype=np.uint8)


@pytest.fixture
def crf(unary: np.ndarray, image: np.ndarray) -> dcrf.DenseCRF2D:
    model = dcrf.DenseCRF2D(W, H, L)
    model.setUnaryEnergy(unary)
    model.addPairwiseGaussian(2, 3)
    model.addPairwiseBilateral(20, 30, image, 4)
    return model


def softmax(exponents: np.ndarray) -> np.ndarray:
    p = np.exp(exponents - exponents.max(axis=0))
    return p / p.sum(axis=0)


def with_compat(unary: np.ndarray, compat: Any) -> np.ndarray:
    model = dcrf.DenseCRF2D(W, H, len(unary))
    model.setUnaryEnergy(unary)
    model.addPairwiseGaussian(2, compat)
    return np.array(model.inference(5))


class TestNames:
    def test_constants(self) -> None:
        assert [k.name for k in dcrf.KernelType] == ["CONST_KERNEL", "DIAG_KERNEL", "FULL_KERNEL"]
        assert [int(k) for k in dcrf.KernelType] == [0, 1, 2]
        assert [int(k) for k in dcrf.NormalizationType] == [0, 1, 2, 3]
        for member in (*dcrf.KernelType, *dcrf.NormalizationType):
            assert getattr(dcrf, member.name) is member

    def test_signatures(self) -> None:
        names = {
            dcrf.DenseCRF.setUnaryEnergy: ["u", "f"],
            dcrf.DenseCRF.addPairwiseEnergy: ["features", "compat", "kernel", "normalization"],
            dcrf.DenseCRF2D.addPairwiseGaussian: ["sxy", "compat", "kernel", "normalization"],
            dcrf.DenseCRF2D.addPairwiseBilateral: ["sxy", "srgb", "rgbim", "compat", "kernel", "normalization"],
            dcrf.DenseCRF.stepInference: ["Q", "tmp1", "tmp2"],
        }
        for method, expected in names.items():
            assert list(inspect.signature(method).parameters)[1:] == expected

    @pytest.mark.parametrize("name", ["inference", "klDivergence", "setUnary"])
    def test_positional_only(self, crf: dcrf.DenseCRF, name: str) -> None:
        parameter = next(iter(inspect.signature(getattr(crf, name)).parameters))
        with pytest.raises(TypeError):
            getattr(crf, name)(**{parameter: 1})

    def test_derives(self) -> None:
        assert issubclass(dcrf.DenseCRF2D, dcrf.DenseCRF)
        assert issubclass(dcrf.ConstUnary, dcrf.Unary)
        assert issubclass(dcrf.LogisticUnary, dcrf.Unary)
        for size in ("npixels", "nvar", "nlabels", "w", "h"):
            assert not hasattr(dcrf.DenseCRF2D(2, 2, 2), size)


class TestConstructors:
    @pytest.mark.parametrize("number", [6, np.int64(6), np.prod((2, 3)), 6.9, np.float32(6), Fraction(13, 2)])
    def test_numbers(self, number: Any) -> None:
        assert np.array(dcrf.DenseCRF(number, 2).inference(1)).shape == (2, 6)
        assert np.array(dcrf.DenseCRF(2, number).inference(1)).shape == (6, 2)
        assert np.array(dcrf.DenseCRF2D(number, 2, 3).inference(1)).shape == (3, 12)

    def test_keywords_and_surplus(self) -> None:
        assert np.array(dcrf.DenseCRF(nvar=4, nlabels=3).inference(0)).shape == (3, 4)
        assert np.array(dcrf.DenseCRF2D(w=4, h=2, nlabels=3).inference(0)).shape == (3, 8)
        assert np.array(dcrf.DenseCRF(4, 3, "more", and_more=1).inference(0)).shape == (3, 4)
        assert np.array(dcrf.DenseCRF2D(4, 2, 3, "more", and_more=1).inference(0)).shape == (3, 8)

    @pytest.mark.parametrize("args", [("4", 2), (4, None), (4,), (), ([4], 2), (4, 2j)])
    def test_type_errors(self, args: tuple[Any, ...]) -> None:
        with pytest.raises(TypeError):
            dcrf.DenseCRF(*args)

    @pytest.mark.parametrize("args", [(-1, 2), (4, 0), (4, -3), (2**31, 2), (float("nan"), 2), (float("inf"), 2)])
    def test_value_errors(self, args: tuple[Any, ...]) -> None:
        with pytest.raises(ValueError, match=r"nvar|nlabels"):
            dcrf.DenseCRF(*args)

    @pytest.mark.parametrize("args", [(-2, 3, 2), (-2, -3, 2), (2, 3, 0), (2**16, 2**15, 2)])
    def test_value_errors_2d(self, args: tuple[Any, ...]) -> None:
        with pytest.raises(ValueError, match=r"w|h|nlabels"):
            dcrf.DenseCRF2D(*args)

    def test_no_variables(self) -> None:
        model = dcrf.DenseCRF(0, 2)
        model.addPairwiseEnergy(np.zeros((3, 0), np.float32), 3)
        assert np.array(model.inference(2)).shape == (2, 0)

    def test_width_comes_first(self, unary: np.ndarray, image: np.ndarray) -> None:
        swapped = dcrf.DenseCRF2D(H, W, L)
        swapped.setUnaryEnergy(unary)  # only the product counts
        with pytest.raises(ValueError, match="width first"):
            swapped.addPairwiseBilateral(20, 30, image, 4)


class TestUnary:
    def test_softmax_of_minus_u(self, unary: np.ndarray) -> None:
        for energies in (unary, unary[:2]):
            model = dcrf.DenseCRF(N, len(energies))
            model.setUnaryEnergy(energies)
            for iterations in (0, -3, np.int64(0), 0.9):
                np.testing.assert_allclose(np.array(model.inference(iterations)), softmax(-energies), atol=1e-6)

    def test_copied(self, unary: np.ndarray) -> None:
        model, mine = dcrf.DenseCRF(N, L), unary.copy()
        model.setUnaryEnergy(mine)
        before = np.array(model.inference(0))
        mine[:] = 0
        np.testing.assert_array_equal(np.array(model.inference(0)), before)

    def test_replaced_between_inferences(self, crf: dcrf.DenseCRF2D, unary: np.ndarray) -> None:
        first = np.array(crf.inference(3))
        crf.setUnaryEnergy(-unary)
        assert np.abs(np.array(crf.inference(3)) - first).max() > 0.1
        crf.setUnary(dcrf.ConstUnary(unary))
        np.testing.assert_array_equal(np.array(crf.inference(3)), first)

    def test_logistic(self, rng: np.random.Generator) -> None:
        weights, values = rng.normal(size=(L, 4)).astype(np.float32), rng.normal(size=(4, N)).astype(np.float32)
        model = dcrf.DenseCRF(N, L)
        model.setUnary(dcrf.LogisticUnary(weights, values))
        np.testing.assert_allclose(np.array(model.inference(0)), softmax(-weights @ values), atol=1e-6)

    def test_one_object_for_many_models(self, unary: np.ndarray) -> None:
        term = dcrf.ConstUnary(unary)
        for _ in range(2):
            model = dcrf.DenseCRF(N, L)
            model.setUnary(term)
            model.setUnary(term)
            np.testing.assert_allclose(np.array(model.inference(0)), softmax(-unary), atol=1e-6)

    def test_bare_means_none(self, crf: dcrf.DenseCRF2D) -> None:
        crf.setUnary(dcrf.Unary())
        np.testing.assert_array_equal(np.array(crf.inference(0)), np.float32(1 / L))

    @pytest.mark.parametrize(
        "relax",
        [
            np.asfortranarray,
            lambda u: u.astype(np.float64),
            lambda u: np.repeat(u, 2, axis=1)[:, ::2],
            lambda u: memoryview(u),
            lambda u: matrixXf(u),
            lambda u: u.astype(">f4"),
            lambda u: np.ma.array(u),
        ],
    )
    def test_layouts(self, unary: np.ndarray, relax: Any) -> None:
        model = dcrf.DenseCRF(N, L)
        model.setUnaryEnergy(relax(unary))
        np.testing.assert_allclose(np.array(model.inference(0)), softmax(-unary), atol=1e-6)

    def test_read_only_half_and_integers(self, unary: np.ndarray) -> None:
        model = dcrf.DenseCRF(N, L)
        rounded = np.round(unary)
        rounded.flags.writeable = False
        for u in (rounded, rounded.astype(np.int32), rounded.astype(np.float16)):
            model.setUnaryEnergy(u)
            np.testing.assert_allclose(np.array(model.inference(0)), softmax(-rounded), atol=1e-6)

    @pytest.mark.parametrize("u", [None, [[1.0] * N] * L, "text", 3, ((1.0,) * N,) * L])
    def test_type_errors(self, u: Any) -> None:
        for call in (dcrf.DenseCRF(N, L).setUnaryEnergy, dcrf.ConstUnary):
            with pytest.raises(TypeError):
                call(u)

    @pytest.mark.parametrize("shape", [(N, L), (L, N + 1), (L + 1, N), (L * N,), (L, H, W), ()])
    def test_wrong_shapes(self, shape: tuple[int, ...]) -> None:
        model = dcrf.DenseCRF(N, L)
        with pytest.raises(ValueError, match=r"Bad shape|dimensions") as caught:
            model.setUnaryEnergy(np.zeros(shape, np.float32))
        assert isinstance(caught.value, CrispmaskError)
        if len(shape) == 2:
            with pytest.raises(ValueError, match="Bad shape for unary energy"):
                model.setUnary(dcrf.ConstUnary(np.zeros(shape, np.float32)))

    @pytest.mark.parametrize("dtype", [complex, object, "U3", "datetime64[s]"])
    def test_wrong_dtypes(self, dtype: Any) -> None:
        with pytest.raises(ValueError, match="real numbers"):
            dcrf.DenseCRF(N, L).setUnaryEnergy(np.zeros((L, N), dtype))

    def test_logistic_shapes(self) -> None:
        with pytest.raises(ValueError, match="share D"):
            dcrf.LogisticUnary(np.zeros((L, 4), np.float32), np.zeros((3, N), np.float32))
        with pytest.raises(ValueError, match="Bad shape"):
            dcrf.DenseCRF(N, L).setUnaryEnergy(np.zeros((L, 4), np.float32), np.zeros((4, N), np.float32))

    @pytest.mark.parametrize("unary", [None, np.zeros((L, N), np.float32), 3])
    def test_set_unary_takes_a_unary(self, unary: Any) -> None:
        with pytest.raises(TypeError):
            dcrf.DenseCRF(N, L).setUnary(unary)


class TestCompatibility:
    def test_signs(self, unary: np.ndarray) -> None:
        """A number attracts; a vector and a diagonal matrix repel with the same sign."""
        potts = with_compat(unary, 3)
        identity = np.identity(L, dtype=np.float32)
        for same in (np.full(L, -3, np.float32), -3 * identity, 3 * (1 - identity)):
            np.testing.assert_allclose(with_compat(unary, same), potts, atol=1e-5)
        assert np.abs(with_compat(unary, np.full(L, 3, np.float32)) - potts).max() > 0.1
        np.testing.assert_allclose(with_compat(unary, 3 * identity), with_compat(unary, -3), atol=1e-5)

    def test_matrices_are_symmetrised(self, unary: np.ndarray, rng: np.random.Generator) -> None:
        for n_labels in (2, 3):
            m = rng.normal(size=(n_labels, n_labels)).astype(np.float32)
            u = unary[:n_labels]
            np.testing.assert_array_equal(with_compat(u, m), with_compat(u, (m + m.T) / 2))
            np.testing.assert_array_equal(with_compat(u, m), with_compat(u, np.ascontiguousarray(m.T)))

    @pytest.mark.parametrize("number", [True, Fraction(1), Decimal(1), np.float32(1), np.int8(1), 1.0])
    def test_numbers(self, unary: np.ndarray, number: Any) -> None:
        np.testing.assert_array_equal(with_compat(unary, number), with_compat(unary, 1))

    def test_lists(self, unary: np.ndarray) -> None:
        diagonal = np.array([-1, 2.5, 0], np.float32)
        np.testing.assert_array_equal(with_compat(unary, [-1, 2.5, 0]), with_compat(unary, diagonal))
        np.testing.assert_array_equal(with_compat(unary, np.diag(diagonal).tolist()), with_compat(unary, diagonal))

    def test_layouts(self, unary: np.ndarray, rng: np.random.Generator) -> None:
        m = rng.normal(size=(L, L)).astype(np.float32)
        m.flags.writeable = False
        for same in (m, m.T, np.asfortranarray(m), memoryview(m)):
            np.testing.assert_array_equal(with_compat(unary, same), with_compat(unary, m))

    @pytest.mark.parametrize("compat", [None, "3", 3j, np.complex64(3), {1: 2}, object()])
    def test_type_errors(self, unary: np.ndarray, compat: Any) -> None:
        with pytest.raises(TypeError):
            with_compat(unary, compat)

    @pytest.mark.parametrize(
        "compat",
        [
            np.zeros(L),
            np.zeros((L, L)),
            np.zeros(L, np.int32),
            np.array(3, np.float32),
            np.zeros((L, L, L), np.float32),
            np.zeros(L + 1, np.float32),
            np.zeros(L - 1, np.float32),
            np.zeros((L, L + 1), np.float32),
            np.zeros((0, 0), np.float32),
            [1.0],
            [],
            [[1.0, 2.0], [3.0]],
            ["1", "2", "3"],
            np.full(L, np.nan, np.float32),
            float("inf"),
            10**400,
        ],
    )
    def test_value_errors(self, unary: np.ndarray, compat: Any) -> None:
        with pytest.raises(ValueError, match=r"."):
            with_compat(unary, compat)


class TestPairwise:
    def test_kernel_type_is_without_effect(self, unary: np.ndarray, image: np.ndarray) -> None:
        results = []
        for kernel in (*dcrf.KernelType, np.int64(1), 17, 0.5):
            model = dcrf.DenseCRF2D(W, H, L)
            model.setUnaryEnergy(unary)
            model.addPairwiseBilateral(20, 30, image, 4, kernel)
            results.append(np.array(model.inference(3)))
        for result in results:
            np.testing.assert_array_equal(result, results[0])

    def test_normalizations(self, unary: np.ndarray) -> None:
        def run(normalization: Any) -> np.ndarray:
            model = dcrf.DenseCRF2D(W, H, L)
            model.setUnaryEnergy(unary)
            model.addPairwiseGaussian(2, 3, normalization=normalization)
            return np.array(model.inference(3))

        by_kind = [run(kind) for kind in dcrf.NormalizationType]
        for i in range(4):
            np.testing.assert_array_equal(run(np.int32(i)), by_kind[i])
            np.testing.assert_array_equal(run(float(i)), by_kind[i])
            for j in range(i):
                assert np.abs(by_kind[i] - by_kind[j]).max() > 1e-4
        np.testing.assert_array_equal(run(99), by_kind[dcrf.NO_NORMALIZATION])
        for wrong in ("3", None):
            with pytest.raises(TypeError):
                run(wrong)

    def test_normalised_isolated_points_get_the_weight(self) -> None:
        """Far apart, K is diagonal and normalised to one: only the own-pixel term w · Q is left."""
        u = np.array([[0.3, -1, 2], [0, 0, 0]], np.float32)
        for n_labels in (2, 3):
            energies = np.vstack([u, np.ones((n_labels - 2, 3), np.float32)])
            model = dcrf.DenseCRF(3, n_labels)
            model.setUnaryEnergy(energies)
            model.addPairwiseEnergy(np.array([[0, 100, 200]], np.float32), 2)
            expected = softmax(-energies + 2 * softmax(-energies))
            np.testing.assert_allclose(np.array(model.inference(1)), expected, atol=1e-6)

    def test_methods_are_features_in_disguise(self, unary: np.ndarray, image: np.ndarray) -> None:
        y, x = np.mgrid[:H, :W].astype(np.float32)
        colours = np.moveaxis(image, 2, 0).astype(np.float32)
        positions = np.stack([x / np.float32(3), y / np.float32(2)])
        all_features = np.concatenate([positions, colours / np.array([10, 20, 30], np.float32)[:, None, None]])
        first, second = dcrf.DenseCRF2D(W, H, L), dcrf.DenseCRF2D(W, H, L)
        for model in (first, second):
            model.setUnaryEnergy(unary)
        first.addPairwiseGaussian((3, 2), 3)
        first.addPairwiseBilateral((3, 2), (10, 20, 30), image, 4)
        second.addPairwiseEnergy(positions.reshape(2, -1), 3)
        second.addPairwiseEnergy(all_features.reshape(5, -1), 4)
        np.testing.assert_array_equal(np.array(first.inference(3)), np.array(second.inference(3)))

    def test_features_and_image_are_copied(self, unary: np.ndarray, image: np.ndarray) -> None:
        features = np.random.default_rng(1).normal(size=(2, N)).astype(np.float32)
        model = dcrf.DenseCRF2D(W, H, L)
        model.setUnaryEnergy(unary)
        model.addPairwiseEnergy(features, 3)
        model.addPairwiseBilateral(20, 30, image, 3)
        before = np.array(model.inference(3))
        features[:], image[:] = 0, 0
        np.testing.assert_array_equal(np.array(model.inference(3)), before)
        np.testing.assert_array_equal(np.array(pickle.loads(pickle.dumps(model)).inference(3)), before)

    @pytest.mark.parametrize(
        "relax",
        [np.asfortranarray, lambda f: f.astype(np.float64), lambda f: np.repeat(f, 2, axis=1)[:, ::2], memoryview],
    )
    def test_feature_layouts(self, unary: np.ndarray, relax: Any) -> None:
        features = np.random.default_rng(1).normal(size=(2, N)).astype(np.float32)
        results = []
        for same in (features, relax(features)):
            model = dcrf.DenseCRF(N, L)
            model.setUnaryEnergy(unary)
            model.addPairwiseEnergy(same, 3)
            results.append(np.array(model.inference(3)))
        np.testing.assert_array_equal(*results)

    def test_image_layouts(self, unary: np.ndarray, image: np.ndarray) -> None:
        pil = pytest.importorskip("PIL.Image")
        frozen = image.copy()
        frozen.flags.writeable = False
        results = []
        for same in (
            image,
            frozen,
            np.asfortranarray(image),
            np.repeat(image, 2, axis=1)[:, ::2],
            image[..., ::-1].copy()[..., ::-1],
            pil.fromarray(image),
            np.asarray(pil.fromarray(image)),
        ):
            model = dcrf.DenseCRF2D(W, H, L)
            model.setUnaryEnergy(unary)
            model.addPairwiseBilateral(20, 30, same, 4)
            results.append(np.array(model.inference(3)))
        for result in results:
            np.testing.assert_array_equal(result, results[0])

    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((W, H, 3), np.uint8),
            np.zeros((H, W, 4), np.uint8),
            np.zeros((H, W, 1), np.uint8),
            np.zeros((H, W), np.uint8),
            np.zeros((H, W, 3), np.float32),
            np.zeros((H, W, 3), np.int8),
            np.zeros((H, W, 3), np.int64),
            np.zeros((1, H, W, 3), np.uint8),
        ],
    )
    def test_wrong_images(self, wrong: np.ndarray) -> None:
        with pytest.raises(ValueError, match="rgbim"):
            dcrf.DenseCRF2D(W, H, L).addPairwiseBilateral(20, 30, wrong, 4)

    def test_image_types(self, image: np.ndarray) -> None:
        model = dcrf.DenseCRF2D(W, H, L)
        model.addPairwiseBilateral(20, 30, image > 100, 4)
        for wrong in (None, image.tolist(), "photo.jpg"):
            with pytest.raises(TypeError):
                model.addPairwiseBilateral(20, 30, wrong, 4)

    @pytest.mark.parametrize("shape", [(2, N + 1), (N, 2), (N,), (2, H, W), (0, N)])
    def test_wrong_feature_shapes(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"shape|dimensions"):
            dcrf.DenseCRF(N, L).addPairwiseEnergy(np.zeros(shape, np.float32), 3)

    def test_missing_and_wrong_arguments(self, image: np.ndarray) -> None:
        model = dcrf.DenseCRF2D(W, H, L)
        features = np.zeros((2, N), np.float32)
        for call in (
            lambda: model.addPairwiseEnergy(features),
            lambda: model.addPairwiseEnergy(features, compatibility=3),
            lambda: model.addPairwiseEnergy(None, 3),
            lambda: model.addPairwiseEnergy(features.tolist(), 3),
            lambda: model.addPairwiseGaussian(3),
            lambda: model.addPairwiseGaussian(None, 3),
            lambda: model.addPairwiseGaussian("33", 3),
            lambda: model.addPairwiseGaussian(("3", "3"), 3),
            lambda: model.addPairwiseGaussian(3j, 3),
            lambda: model.addPairwiseBilateral(3, 3, image),
            lambda: dcrf.DenseCRF(N, L).addPairwiseGaussian(3, 3),
        ):
            with pytest.raises((TypeError, AttributeError)):
                call()
        for call in (
            lambda: model.addPairwiseGaussian((3,), 3),
            lambda: model.addPairwiseGaussian(np.array(3), 3),
            lambda: model.addPairwiseBilateral(3, (3, 3), image, 3),
        ):
            with pytest.raises(IndexError):
                call()
        assert np.ptp(np.array(model.inference(1))) == 0  # nothing was added

    @pytest.mark.parametrize("s", [0, 0.0, (3, 0), float("nan"), 1e-60, 1e-30, (3, float("nan")), 10**400])
    def test_impossible_deviations(self, image: np.ndarray, s: Any) -> None:
        with pytest.raises(ValueError, match=r"."):
            dcrf.DenseCRF2D(W, H, L).addPairwiseGaussian(s, 3)
        with pytest.raises((ValueError, IndexError)):
            dcrf.DenseCRF2D(W, H, L).addPairwiseBilateral(3, s, image, 3)

    def test_surplus_deviations_are_ignored(self, unary: np.ndarray) -> None:
        np.testing.assert_array_equal(*(self.gaussian(unary, s) for s in ((3, 2), [3.0, 2.0, "what"])))

    @staticmethod
    def gaussian(unary: np.ndarray, sxy: Any) -> np.ndarray:
        model = dcrf.DenseCRF2D(W, H, L)
        model.setUnaryEnergy(unary)
        model.addPairwiseGaussian(sxy, 3)
        return np.array(model.inference(2))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, 3e38])
    def test_impossible_features(self, bad: float) -> None:
        features = np.zeros((3, N), np.float32)
        features[1, 5] = bad
        with pytest.raises(ValueError, match="features"):
            dcrf.DenseCRF(N, L).addPairwiseEnergy(features, 3)


class TestInference:
    def test_no_side_effects(self, crf: dcrf.DenseCRF2D) -> None:
        first = np.array(crf.inference(4))
        crf.stepInference(*crf.startInference())
        np.testing.assert_array_equal(np.array(crf.inference(4)), first)

    @pytest.mark.parametrize("n_labels", [1, 2, 3])
    def test_steps_are_inference(self, unary: np.ndarray, image: np.ndarray, n_labels: int) -> None:
        model = dcrf.DenseCRF2D(W, H, n_labels)
        model.setUnaryEnergy(unary[:n_labels])
        model.addPairwiseBilateral(20, 30, image, 4)
        model.addPairwiseGaussian(2, np.arange(n_labels, dtype=np.float32), normalization=dcrf.NO_NORMALIZATION)
        q, first, second = model.startInference()
        view = np.asarray(q)
        for iterations in range(5):
            np.testing.assert_array_equal(np.array(q), np.array(model.inference(iterations)))
            assert model.stepInference(q, tmp1=first, tmp2=second) is None
        np.testing.assert_array_equal(view, np.array(model.inference(5)))  # in place
        assert first.shape == second.shape == (0, 0)

    @pytest.mark.parametrize("n_labels", [2, 3])
    def test_without_a_unary(self, n_labels: int) -> None:
        model = dcrf.DenseCRF2D(W, H, n_labels)
        model.addPairwiseGaussian(2, np.arange(n_labels, dtype=np.float32))
        np.testing.assert_array_equal(np.array(model.inference(0)), np.float32(1 / n_labels))
        q, first, second = model.startInference()
        np.testing.assert_array_equal(np.array(q), 0)
        model.stepInference(q, first, second)
        np.testing.assert_allclose(np.array(q), 1 / n_labels, atol=1e-6)

    def test_one_label(self, image: np.ndarray) -> None:
        model = dcrf.DenseCRF2D(W, H, 1)
        model.setUnaryEnergy(np.full((1, N), 5, np.float32))
        model.addPairwiseBilateral(3, 3, image, 3)
        np.testing.assert_array_equal(np.array(model.inference(3)), 1)

    def test_relabelling_permutes(self, image: np.ndarray, unary: np.ndarray) -> None:
        order = np.array([2, 0, 1])
        results = []
        for u in (unary, unary[order]):
            model = dcrf.DenseCRF2D(W, H, L)
            model.setUnaryEnergy(u)
            model.addPairwiseBilateral(20, 30, image, 4)
            results.append(np.array(model.inference(4)))
        np.testing.assert_allclose(results[0][order], results[1], atol=1e-5)

    def test_two_labels_are_the_first_two_of_three(self, unary: np.ndarray, image: np.ndarray) -> None:
        """The path for two labels against the general one, the third label being forbidden."""
        matrix = np.array([[-3, 1, 0], [0.5, -1, 0], [0, 0, 0]], np.float32)
        results = []
        for n_labels in (2, 3):
            u = unary.copy()
            u[2] = 80
            model = dcrf.DenseCRF2D(W, H, n_labels)
            model.setUnaryEnergy(u[:n_labels])
            model.addPairwiseBilateral(20, 30, image, np.ascontiguousarray(matrix[:n_labels, :n_labels]))
            model.addPairwiseGaussian(2, -np.arange(1, n_labels + 1, dtype=np.float32), normalization=0)
            results.append(np.array(model.inference(5))[:2])
        np.testing.assert_allclose(results[0], results[1], atol=1e-5)

    def test_small_probabilities_survive(self) -> None:
        model = dcrf.DenseCRF(2, 2)
        model.setUnaryEnergy(np.array([[0, 60], [60, 0]], np.float32))
        np.testing.assert_allclose(np.array(model.inference(0))[[1, 0], [0, 1]], np.exp(-60), rtol=1e-4)

    @pytest.mark.parametrize("niter", [None, "3", 2j, [3]])
    def test_iteration_types(self, crf: dcrf.DenseCRF2D, niter: Any) -> None:
        with pytest.raises(TypeError):
            crf.inference(niter)
        with pytest.raises(TypeError):
            crf.inference()

    @pytest.mark.parametrize("q", [None, np.zeros((L, N), np.float32), [[0.0]]])
    def test_only_matrices(self, crf: dcrf.DenseCRF2D, q: Any) -> None:
        with pytest.raises(TypeError):
            crf.klDivergence(q)
        with pytest.raises(TypeError):
            crf.stepInference(q, MatrixXf(), MatrixXf())
        with pytest.raises(TypeError):
            crf.stepInference(crf.inference(0), q, MatrixXf())

    @pytest.mark.parametrize("shape", [(N, L), (L, N - 1), (0, 0)])
    def test_wrong_marginals(self, crf: dcrf.DenseCRF2D, shape: tuple[int, int]) -> None:
        q = matrixXf(np.zeros(shape, np.float32))
        with pytest.raises(ValueError, match="Bad shape for Q"):
            crf.klDivergence(q)
        with pytest.raises(ValueError, match="Bad shape for Q"):
            crf.stepInference(q, MatrixXf(), MatrixXf())

    def test_divergence_is_its_formula(self, unary: np.ndarray) -> None:
        """Far apart points: P(Q) = -w Q, so every sum can be written down."""
        model = dcrf.DenseCRF(3, L)
        u = unary[:, :3]
        model.setUnaryEnergy(u)
        model.addPairwiseEnergy(np.array([[0, 100, 200]], np.float32), 2)
        q = np.array([[0.5, 0, 0.2], [0.5, 0.1, 0.3], [0, 0.9, 0.1]], np.float32)
        expected = (q * np.log(np.maximum(q, 1e-20))).sum() + (u * q).sum() - 2 * (q * q).sum()
        value = model.klDivergence(matrixXf(q))
        assert type(value) is float
        assert value == pytest.approx(expected, rel=1e-5)

    def test_divergence_falls_on_attraction(self, crf: dcrf.DenseCRF2D) -> None:
        values = [crf.klDivergence(crf.inference(n)) for n in (0, 1, 10)]
        assert values[0] > values[1] > values[2]

    def test_threads_share_a_model(self, crf: dcrf.DenseCRF2D) -> None:
        expected, results = np.array(crf.inference(5)), {}

        def work(i: int) -> None:
            results[i] = [np.array(crf.inference(5)) for _ in range(20)]

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 4
        for result in results.values():
            for q in result:
                np.testing.assert_array_equal(q, expected)


class Smoother(dcrf.DenseCRF2D):
    """A client's subclass, with a constructor and state of its own."""

    def __init__(self, image: np.ndarray, n_labels: int) -> None:
        super().__init__(image.shape[1], image.shape[0], n_labels)
        self.image = image

    def smooth(self, unary: np.ndarray) -> np.ndarray:
        self.setUnaryEnergy(unary)
        self.addPairwiseBilateral(20, 30, self.image, 4)
        return np.array(self.inference(3))


class TestObjects:
    def test_subclass(self, image: np.ndarray, unary: np.ndarray) -> None:
        model = dcrf.DenseCRF2D(W, H, L)
        model.setUnaryEnergy(unary)
        model.addPairwiseBilateral(20, 30, image, 4)
        np.testing.assert_array_equal(Smoother(image, L).smooth(unary), np.array(model.inference(3)))

    @pytest.mark.parametrize("duplicate", [lambda c: pickle.loads(pickle.dumps(c)), copy.copy, copy.deepcopy])
    def test_duplicates_are_equal_and_independent(
        self, crf: dcrf.DenseCRF2D, unary: np.ndarray, duplicate: Any
    ) -> None:
        expected = np.array(crf.inference(4))
        other = duplicate(crf)
        np.testing.assert_array_equal(np.array(other.inference(4)), expected)
        other.addPairwiseGaussian(1, 5)
        other.setUnaryEnergy(-unary)
        np.testing.assert_array_equal(np.array(crf.inference(4)), expected)
        assert np.abs(np.array(other.inference(4)) - expected).max() > 0.1

    def test_subclasses_pickle(self, image: np.ndarray, unary: np.ndarray) -> None:
        model = Smoother(image, L)
        expected = model.smooth(unary)
        again = copy.deepcopy(model)
        np.testing.assert_array_equal(np.array(again.inference(3)), expected)
        np.testing.assert_array_equal(again.image, image)

    def test_unaries_pickle(self, unary: np.ndarray) -> None:
        model = dcrf.DenseCRF(N, L)
        model.setUnary(pickle.loads(pickle.dumps(dcrf.ConstUnary(unary))))
        np.testing.assert_allclose(np.array(model.inference(0)), softmax(-unary), atol=1e-6)
