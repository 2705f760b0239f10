"""Unaries from labels and probabilities, many images at once, and volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crispmask.crf import (
    Bilateral,
    DenseCRF,
    Gaussian,
    VolumeBilateral,
    exact,
    refine_volume,
    run_batch,
    two_label_marginals,
    unary_from_labels,
    unary_from_probabilities,
    window_marginals,
)
from crispmask.errors import CrispmaskError, ShapeError, ValueRangeError
from crispmask.pydensecrf import utils


def problem(seed: int, labels: int = 2) -> DenseCRF:
    rng = np.random.default_rng(seed)
    grid = int(rng.integers(1, 20)), int(rng.integers(1, 20))
    image = rng.integers(0, 255, (*grid, 3)).astype(np.uint8)
    return DenseCRF(rng.normal(size=(labels, *grid)), [Bilateral(image, 5, 30, 3), Gaussian(1, 1)])


@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_is_its_images_in_order(threads: int) -> None:
    taken = []

    def crfs() -> Any:
        for seed in range(12):
            taken.append(seed)
            yield problem(seed, 2 + seed % 2)

    found = run_batch(crfs(), 4, threads=threads)
    for seed, result in enumerate(found):
        np.testing.assert_array_equal(result.marginals, problem(seed, 2 + seed % 2).run(4).marginals)
        assert len(taken) <= seed + 2 * threads + 1  # the rest of the generator waits
    assert len(taken) == 12
    with pytest.raises(ValueRangeError, match="threads"):
        list(run_batch([], threads=0))


@pytest.mark.parametrize("threads", [1, 3])
def test_windows_on_the_cpu(threads: int) -> None:
    crfs = [problem(seed) for seed in range(5)]
    odds = [(crf.unary[0] - crf.unary[1]).reshape(crf.grid) for crf in crfs]
    found = window_marginals(odds, [crf.kernels for crf in crfs], 3, threads=threads)
    for o, crf, q in zip(odds, crfs, found, strict=True):
        np.testing.assert_array_equal(q, two_label_marginals(o, crf.kernels, 3))
    assert window_marginals([], []) == []


def test_unaries_are_those_of_pydensecrf() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], (4, 5)).transpose(2, 0, 1).astype(np.float32)
    p[:, 0, 0] = 0, 0, 1
    expected = utils.unary_from_softmax(p).reshape(p.shape)
    np.testing.assert_allclose(unary_from_probabilities(p), expected, rtol=1e-6)
    labels = rng.integers(0, 3, (4, 5)).astype(np.uint8)
    expected = utils.unary_from_labels(labels, 3, 0.8, zero_unsure=False).reshape(3, 4, 5)
    np.testing.assert_allclose(unary_from_labels(labels, 3, confidence=0.8), expected, rtol=1e-6)
    labels[1, 2] = 255
    energies = unary_from_labels(labels, 3, unknown=255)
    assert (energies[:, 1, 2] == energies[0, 1, 2]).all()


def test_two_lines() -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    image[:, 4:] = 200
    labels = (image[..., 0] > 100).astype(np.uint8)
    labels[3, 1] = 1  # one that is wrong
    kernels = [Bilateral(image, 20, 13, 5), Gaussian(1, 1)]
    expected = image[..., 0] > 100
    np.testing.assert_array_equal(DenseCRF.from_labels(labels, 2, kernels).run().labels, expected)
    p = np.where(labels == np.arange(2)[:, None, None], 0.7, 0.3)
    np.testing.assert_array_equal(DenseCRF.from_probabilities(p, kernels).run().labels, expected)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: unary_from_probabilities(np.full((2, 3), 3.0)), "softmax"),
        (lambda: unary_from_probabilities(np.zeros(3)), "shape"),
        (lambda: unary_from_probabilities(np.zeros((2, 3)), floor=0), "floor"),
        (lambda: unary_from_labels(np.array([0, 2]), 2), "from 0 to 1"),
        (lambda: unary_from_labels(np.array([0.5]), 2), "whole numbers"),
        (lambda: unary_from_labels(np.array([0]), 1), "count"),
    ],
)
def test_what_is_no_unary(call: Any, words: str) -> None:
    with pytest.raises(CrispmaskError, match=words):
        call()


def volume_scene(channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright ball in noise, (D, H, W, C); the ball; and a mask that is shifted by two voxels."""
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[:14, :24, :24]
    ball = (2 * (z - 7)) ** 2 + (y - 12) ** 2 + (x - 12) ** 2 < 49  # slices twice as thick
    volume = np.repeat((60 + 80 * ball)[..., None], channels, 3) + rng.normal(0, 8, (14, 24, 24, channels))
    return volume.astype(np.float32), ball, np.roll(ball, 2, 2)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_volume_s_mask_moves_to_the_edge(channels: int) -> None:
    volume, ball, mask = volume_scene(channels)
    options: dict[str, Any] = {"theta_alpha": 6.0, "theta_beta": 30.0, "spacing": (2.0, 1.0, 1.0), "smoothing": 1.5}
    found = refine_volume(volume[..., 0] if channels == 1 else volume, mask, **options)
    assert found.dtype == np.float32

    def iou(a: np.ndarray) -> float:
        return float((a & ball).sum() / (a | ball).sum())

    assert iou(mask) < 0.75
    assert iou(found > 0.5) > 0.9
    twice = refine_volume(volume[..., 0] if channels == 1 else volume, mask, threads=2, **options)
    np.testing.assert_array_equal(found, twice)


def test_a_volume_against_the_sum_over_all_pairs() -> None:
    volume, _, mask = volume_scene(2)
    part = np.s_[4:9, 6:14, 6:14]
    unary = unary_from_labels(mask[part].astype(int), 2)
    kernels = [
        VolumeBilateral(volume[part], (6, 4, 5), 30, 2, spacing=(2, 1, 1)),
        Gaussian((0.8, 1.2, 1), 1, self_term=False),
    ]
    crf = DenseCRF(unary, kernels)
    features = kernels[0].features(crf.grid)
    np.testing.assert_allclose(features[2].reshape(crf.grid)[:, 0, 0], np.arange(5) / np.float32(3))
    assert abs(crf.run(5).marginals - exact.run(crf, 5).marginals).mean() < 0.02
    alone = DenseCRF(unary, kernels[1:])
    np.testing.assert_allclose(alone.run(5).marginals, exact.run(alone, 5).marginals, atol=1e-4)


def test_volumes_that_do_not_fit() -> None:
    volume, _, mask = volume_scene(1)
    options: dict[str, Any] = {"theta_alpha": 6.0, "theta_beta": 30.0}
    with pytest.raises(ShapeError, match="volume's shape"):
        refine_volume(volume, mask[:5], **options)
    with pytest.raises(ShapeError, match="volume must have shape"):
        refine_volume(volume[0, 0], mask, **options)
    for bad in ({"spacing": (0, 1, 1)}, {"confidence": 0.4}, {"smoothing": -1}):
        with pytest.raises(ValueRangeError):
            refine_volume(volume, mask, **(options | bad))
    with pytest.raises(ValueRangeError, match="mask"):
        refine_volume(volume, 2 * mask, **options)
