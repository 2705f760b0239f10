"""The helpers for unaries and features, from the specification."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest

from crispmask.pydensecrf import utils


def test_labels_with_unknown() -> None:
    u = utils.unary_from_labels(np.array([[0, 1], [3, 2]]), 3, 0.7)
    expected = np.full((3, 4), -np.log(0.3 / 2))
    expected[[0, 2, 1], [1, 2, 3]] = -np.log(0.7)
    expected[:, 0] = -np.log(1 / 3)
    assert u.dtype == np.float32
    np.testing.assert_allclose(u, expected, rtol=1e-6)


def test_labels_without_unknown() -> None:
    u = utils.unary_from_labels(np.array([0, 2, -1]), 3, 0.7, zero_unsure=False)
    np.testing.assert_array_equal(u.argmin(axis=0), [0, 2, 2])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint64, np.int8])
def test_unsigned_labels_with_unknown(dtype: type) -> None:
    labels = np.array([0, 1, 2, 3])
    np.testing.assert_array_equal(
        utils.unary_from_labels(labels.astype(dtype), 3, 0.7), utils.unary_from_labels(labels, 3, 0.7)
    )


@pytest.mark.parametrize(
    ("labels", "n_labels", "gt_prob", "error"),
    [
        ([1], 2, 0.0, AssertionError),
        ([1], 2, 1.0, AssertionError),
        ([1], 2, -3, AssertionError),
        ([3], 2, 0.5, IndexError),
        ([1.0], 2, 0.5, IndexError),
        ([1], 1, 0.5, ZeroDivisionError),
    ],
)
def test_label_errors(labels: list[float], n_labels: int, gt_prob: float, error: type[Exception]) -> None:
    with pytest.raises(error):
        utils.unary_from_labels(np.array(labels), n_labels, gt_prob)
    with pytest.raises(AttributeError):
        utils.unary_from_labels(labels, 2, 0.5)


def test_softmax() -> None:
    p = np.array([[[0.25, 0.0]], [[0.75, 1.5]]])
    u = utils.unary_from_softmax(p)
    np.testing.assert_allclose(u, -np.log([[0.25, 1e-5], [0.75, 1]]), rtol=1e-6)
    assert u.dtype == np.float32
    np.testing.assert_allclose(
        utils.unary_from_softmax(p, scale=0.5, clip=None), -np.log(0.5 * p[:, 0] + 0.25), rtol=1e-6
    )
    with np.errstate(divide="ignore"):
        assert utils.unary_from_softmax(p, clip=None)[0, 1] == np.inf
    for scale in (0, 1.1, -1):
        with pytest.raises(AssertionError):
            utils.unary_from_softmax(p, scale=scale)


def test_softmax_keeps_the_memory_order() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(3), (4, 5))
    assert utils.unary_from_softmax(p.transpose(2, 0, 1)).flags.f_contiguous
    assert utils.unary_from_softmax(p.transpose(2, 0, 1).copy()).flags.c_contiguous


def test_deprecated_names(caplog: pytest.LogCaptureFixture) -> None:
    labels, p = np.array([0, 1, 2]), np.array([[0.25, 0.5], [0.75, 0.5]])
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(utils.compute_unary(labels, 2), utils.unary_from_labels(labels, 2, 0.5))
        np.testing.assert_array_equal(utils.softmax_to_unary(p), utils.unary_from_softmax(p, clip=None))
        np.testing.assert_array_equal(utils.softmax_to_unary(p, 0.5), utils.unary_from_softmax(p, 0.5, None))
    assert [record.name for record in caplog.records] == ["root"] * 3


def test_gaussian_features() -> None:
    f = utils.create_pairwise_gaussian((2, 4), (2, 3))
    np.testing.assert_array_equal(f, np.float32([[0, 0, 0, 0.5, 0.5, 0.5], [0, 0.25, 0.5, 0, 0.25, 0.5]]))
    assert utils.create_pairwise_gaussian((1, 2, 3), (4, 5, 6)).shape == (3, 120)
    assert utils.create_pairwise_gaussian((3,), (2, 3)).shape == (1, 12)  # the original's way; refused later
    with pytest.raises(TypeError):
        utils.create_pairwise_gaussian(3, (2, 3))
    with pytest.raises(IndexError):
        utils.create_pairwise_gaussian((1, 2, 3), (2, 3))


def test_bilateral_features() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)
    before = image.copy()
    f = utils.create_pairwise_bilateral((2, 4), (10, 5), image, chdim=2)
    np.testing.assert_array_equal(f[:2], utils.create_pairwise_gaussian((2, 4), (2, 3)))
    np.testing.assert_allclose(f[2], image[..., 0].ravel() / 10)
    np.testing.assert_allclose(f[3], image[..., 1].ravel() / 5)
    np.testing.assert_array_equal(image, before)
    assert f.dtype == np.float32
    np.testing.assert_array_equal(f[3], utils.create_pairwise_bilateral((2, 4), (10, 5), image, chdim=2)[3])
    channel_first = np.ascontiguousarray(np.moveaxis(image, 2, 0))
    for chdim in (0, -3):
        np.testing.assert_array_equal(utils.create_pairwise_bilateral((2, 4), (10, 5), channel_first, chdim=chdim), f)


def test_bilateral_quirks() -> None:
    image = np.ones((2, 3, 2), np.uint8)
    assert utils.create_pairwise_bilateral((1, 1, 1), 2, image).shape == (4, 12)  # -1: no channel axis
    f = utils.create_pairwise_bilateral((2,), (4,), image, chdim=2)
    assert f[1].max() == 2  # undivided
    assert (f[2] == 0.25).all()
    assert (f[3] == 1).all()  # undivided
    with pytest.raises(IndexError):
        utils.create_pairwise_bilateral((1, 1), (1, 2, 3), image, chdim=2)


def test_import_is_light() -> None:
    """Unaries are computed in data loaders and tools that never run the CRF."""
    code = (
        "import sys, crispmask.pydensecrf.utils, crispmask.pydensecrf.eigen, crispmask.pydensecrf.densecrf as dcrf\n"
        "dcrf.DenseCRF2D(2, 2, 2)\n"
        "print(sorted({'numba', 'llvmlite', 'torch', 'cv2', 'supervision', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
