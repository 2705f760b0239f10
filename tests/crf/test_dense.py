"""Inference against brute force, at the level of the mathematics and of the user's object."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from crispmask.crf import (
    Bilateral,
    DenseCRF,
    Gaussian,
    Kernel,
    PermutohedralLattice,
    _threads,
    exact,
    two_label_marginals,
)
from crispmask.errors import CrispmaskError, ShapeError, ValueRangeError

NORMALIZATIONS = ["none", "before", "after", "symmetric"]


def smooth_unary(rng: np.random.Generator, labels: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([10 * gaussian_filter(rng.normal(size=shape), 3) for _ in range(labels)]).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=0))
    return e / e.sum(axis=0)


def lattice_matrix(kernel: Any, grid: tuple[int, ...]) -> np.ndarray:
    """Dense float64 matrix of a kernel's message, normalised and weighted in NumPy from the raw filter."""
    n = int(np.prod(grid))
    identity = np.eye(n, dtype=np.float32)
    if isinstance(kernel, Gaussian):
        raw = exact.kernel_matrix(kernel.features(grid))
    else:
        raw = kernel.lattice.filter(identity).T.astype(np.float64)
    sums = raw.sum(axis=1)
    matrix = {
        "none": raw,
        "before": raw / sums,
        "after": raw / sums[:, None],
        "symmetric": raw / np.sqrt(np.outer(sums, sums)),
    }[kernel.normalization]
    return kernel.weight * (matrix if kernel.self_term else matrix - np.diag(np.diag(matrix)))


@pytest.mark.parametrize("labels", [1, 2, 3, 9])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("self_term", [True, False])
@pytest.mark.parametrize("compatibility", ["potts", "vector", "matrix", "asymmetric"])
@pytest.mark.parametrize("kernels", ["bilateral", "gaussian", "both", "three", "none"])
def test_mean_field_equals_numpy(
    labels: int, normalization: Any, self_term: bool, compatibility: str, kernels: str
) -> None:
    """Every path through the compiled walk, against five lines of NumPy on the lattice's own matrix."""
    rng = np.random.default_rng(labels)
    image = gaussian_filter(rng.normal(size=(9, 13, 3)), (2, 2, 0)) * 200
    unary = smooth_unary(rng, labels, (9, 13))
    options = {"normalization": normalization, "self_term": self_term}
    weight = 0.05 if normalization == "none" else 2.0
    chosen: list[Any] = {
        "bilateral": [Bilateral(image, 5, 30, weight, **options)],
        "gaussian": [Gaussian(1.5, weight, **options)],
        "both": [Gaussian((1.0, 2.0), weight, **options), Bilateral(image, (5, 4), 30, weight, **options)],
        "three": [
            Bilateral(image, 5, 30, weight, **options),
            Kernel(image.transpose(2, 0, 1)[:2] / 50, weight / 2, **options),
            Gaussian(1.5, weight, **options),
            Gaussian(0.5, weight / 2),
        ],
        "none": [],
    }[kernels]
    symmetric = rng.normal(size=(labels, labels))
    mu, given = {
        "potts": (1 - np.eye(labels), None),
        "vector": (-np.diag(np.arange(labels) / 3), np.arange(labels) / 3),
        "matrix": (symmetric + symmetric.T, symmetric + symmetric.T),
        "asymmetric": (symmetric, symmetric),
    }[compatibility]
    matrix = sum((lattice_matrix(k, (9, 13)) for k in chosen), np.zeros((117, 117)))
    q = softmax(-unary.reshape(labels, -1).astype(np.float64))
    for _ in range(4):
        q = softmax(-unary.reshape(labels, -1) - mu @ (q @ matrix.T))
    result = DenseCRF(unary, chosen, given).run(4)
    np.testing.assert_allclose(result.marginals.reshape(labels, -1), q, atol=2e-3)  # the Gaussian's cut
    assert result.marginals.dtype == np.float32
    assert result.marginals.shape == unary.shape
    assert abs(result.marginals.sum(axis=0) - 1).max() <= 1e-5
    assert (result.labels == result.marginals.argmax(axis=0)).all()


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("self_term", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_points_that_stand_for_several(
    labels: int, normalization: Any, self_term: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted points against NumPy on the matrix of the lattice that has each point as often as it counts."""
    monkeypatch.setattr(_threads, "_POINTS", 30 if threads > 1 else 1 << 18)
    rng = np.random.default_rng(labels)
    image = gaussian_filter(rng.normal(size=(9, 13, 3)), (2, 2, 0)) * 200
    counts = rng.integers(0, 4, (9, 13)) * (rng.random((9, 13)) < 0.6)
    options = {"normalization": normalization, "self_term": self_term}
    weight = 0.05 if normalization == "none" else 2.0
    kernel = Bilateral(image, 5, 30, weight, counts=counts, **options)
    smooth = Gaussian(1.5, weight / 2, **options)

    often = np.repeat(np.arange(117), counts.ravel())
    raw = PermutohedralLattice(kernel.features((9, 13))[:, often]).filter(np.eye(len(often), dtype=np.float32)).T
    sums = raw.sum(1)
    scaled = {
        "none": raw,
        "before": raw / sums,
        "after": raw / sums[:, None],
        "symmetric": raw / np.sqrt(np.outer(sums, sums)),
    }[normalization]
    received = np.zeros((117, len(often)))
    received[often] = weight * scaled  # the same row for each of those that are one point
    matrix = received @ (often[:, None] == np.arange(117))
    matrix -= 0 if self_term else np.diag(np.diag(matrix))
    matrix += lattice_matrix(smooth, (9, 13))

    unary = smooth_unary(rng, labels, (9, 13))
    q = softmax(-unary.reshape(labels, -1).astype(np.float64))
    for _ in range(4):
        q = softmax(-unary.reshape(labels, -1) - (1 - np.eye(labels)) @ (q @ matrix.T))
    crf = DenseCRF(unary, [kernel, smooth])
    result = crf.run(4, threads=threads).marginals
    np.testing.assert_allclose(result.reshape(labels, -1), q, atol=2e-3)  # the Gaussian's cut
    assert (result == crf.run(4).marginals).all()  # the same strips, on one thread


def test_counts_of_the_oracle() -> None:
    counts = np.array([2.0, 0.0, 1.0])
    once = exact.message_matrix(Kernel([[0.0, 0.5, 3.0]], 2.0, normalization="after", counts=counts), (3,))
    twice = exact.message_matrix(Kernel([[0.0, 0.0, 3.0]], 2.0, normalization="after"), (3,))
    np.testing.assert_allclose(once[[0, 2]][:, [0, 2]], np.stack([twice[1:, :2].sum(1), twice[1:, 2]], 1), rtol=1e-6)
    assert not once[1].any()
    assert not once[:, 1].any()


@pytest.mark.parametrize(
    ("counts", "error"),
    [
        (np.ones((3, 4)), ShapeError),
        (np.zeros((4, 3)), ValueRangeError),
        (-np.ones((4, 3)), ValueRangeError),
        (np.full((4, 3), np.inf), ValueRangeError),
    ],
)
def test_bad_counts_are_named(counts: np.ndarray, error: type[CrispmaskError]) -> None:
    with pytest.raises(error, match="counts"):
        Bilateral(np.zeros((4, 3, 3), np.uint8), 5, 5, 1, counts=counts)


@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_two_label_marginals_equal_the_general_path(iterations: int) -> None:
    """The fast path for two labels, and the same two labels beside a third that nobody takes."""
    rng = np.random.default_rng(0)
    image = (gaussian_filter(rng.normal(size=(20, 30, 3)), (3, 3, 0)) * 300 + 100).clip(0, 255).astype(np.uint8)
    odds = smooth_unary(rng, 1, (20, 30))[0]
    kernels = [Bilateral(image, 10, 20, 3), Gaussian(1, 1)]
    three = np.stack([np.zeros_like(odds), -odds, np.full_like(odds, 1e4)])
    general = DenseCRF(three, kernels).run(iterations).marginals[1]
    fast = two_label_marginals(odds, kernels, iterations)
    np.testing.assert_allclose(fast, general, atol=1e-5)
    through_object = DenseCRF(three[:2], kernels).run(iterations).marginals
    assert (through_object[1] == fast).all()


@pytest.mark.parametrize("labels", [2, 3])
def test_kl_and_energy_by_enumeration(labels: int) -> None:
    """KL(Q‖P) - log Z = Σ_x Q(x) (log Q(x) + E(x)) over all labellings of five points."""
    rng = np.random.default_rng(labels)
    points = 5
    kernel = Kernel(rng.normal(size=(2, points)), 1.3)
    mu = rng.random((labels, labels))
    mu += mu.T
    unary = rng.normal(size=(labels, points)).astype(np.float32)
    crf = DenseCRF(unary, [kernel], mu)
    matrix = lattice_matrix(kernel, (points,))
    matrix = (matrix + matrix.T) / 2
    result = crf.run(3, track=True)
    assert result.kl is not None
    assert result.energy is not None
    q = result.marginals.astype(np.float64)
    total = 0.0
    for x in itertools.product(range(labels), repeat=points):
        energy = sum(unary[x[i], i] for i in range(points))
        energy += sum(matrix[i, j] * mu[x[i], x[j]] for i in range(points) for j in range(i))
        probability = np.prod([q[x[i], i] for i in range(points)])
        total += probability * (np.log(probability) + energy)
        assert crf.energy(np.array(x)) == pytest.approx(energy, rel=1e-4, abs=1e-4)
    assert result.kl[-1] == pytest.approx(total, rel=1e-4, abs=1e-4)
    assert result.energy[-1] == pytest.approx(crf.energy(result.labels), rel=1e-6)
    assert result.kl.shape == result.energy.shape == (4,)
    assert result.kl.dtype == result.energy.dtype == np.float64


def test_tracking_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    for labels in (2, 4):
        crf = DenseCRF(smooth_unary(rng, labels, (8, 9)), [Gaussian(2, 1)])
        plain, tracked = crf.run(3), crf.run(3, track=True)
        assert (plain.marginals == tracked.marginals).all()
        assert plain.kl is None


def test_what_is_observed_are_the_marginals_of_shorter_runs() -> None:
    rng = np.random.default_rng(6)
    for labels in (1, 2, 4):
        crf = DenseCRF(smooth_unary(rng, labels, (8, 9)), [Gaussian(2, 1)])
        seen: list[np.ndarray] = []
        crf.run(3, track=labels == 2, observe=seen.append)
        assert len(seen) == 4
        for t, q in enumerate(seen):
            np.testing.assert_allclose(q, crf.run(t).marginals, atol=1e-6)


def test_a_reweighted_kernel_is_a_new_one_on_the_same_lattice() -> None:
    rng = np.random.default_rng(7)
    image, unary = rng.integers(0, 255, (9, 8, 3)).astype(np.uint8), smooth_unary(rng, 2, (9, 8))
    kernel = Bilateral(image, 5, 40, 3)
    before = DenseCRF(unary, [kernel]).run(2).marginals
    for options in ({"normalization": "none"}, {"self_term": False}, {"normalization": "after"}):
        twin = kernel.reweighted(7, **options)
        assert twin.lattice is kernel.lattice
        fresh = Bilateral(image, 5, 40, 7, **options)
        assert (DenseCRF(unary, [twin]).run(2).marginals == DenseCRF(unary, [fresh]).run(2).marginals).all()
    assert (DenseCRF(unary, [kernel]).run(2).marginals == before).all()
    with pytest.raises(ValueRangeError, match="weight must be"):
        kernel.reweighted(-1)


def crops(shared_data: Path) -> list[np.ndarray]:
    """50x50 crops of real photos, from the middle of each."""
    from PIL import Image

    files = sorted(shared_data.rglob("*.jpg"))
    images = []
    for path in files[:: max(1, len(files) // 8)]:
        image = np.asarray(Image.open(path).convert("RGB"))
        if min(image.shape[:2]) < 50 or image.std() < 10:
            continue
        y, x = image.shape[0] // 2 - 25, image.shape[1] // 2 - 25
        images.append(image[y : y + 50, x : x + 50])
    return images


@pytest.mark.parametrize("theta_alpha", [20, 60])
def test_lattice_against_exact_on_photos(shared_data: Path, theta_alpha: float) -> None:
    """Mean |ΔQ| <= 0.005 and 99.5 % equal labels over real crops, for a coarse mask through the middle."""
    differences, equal = [], []
    rows, columns = np.indices((50, 50))
    inside = np.hypot(rows - 25, columns - 25) < 15
    odds = 4 * gaussian_filter(np.where(inside, 1.0, -1.0), 3)
    unary = np.stack([np.zeros_like(odds), -odds]).astype(np.float32)
    images = crops(shared_data)
    assert len(images) >= 8
    for image in images:
        crf = DenseCRF(unary, [Bilateral(image, theta_alpha, 10, 3)])
        lattice, oracle = crf.run(10), exact.run(crf, 10)
        assert abs(lattice.marginals.sum(axis=0) - 1).max() <= 1e-5
        differences.append(abs(lattice.marginals - oracle.marginals).mean())
        equal.append((lattice.labels == oracle.labels).mean())
    assert np.mean(differences) <= 0.005
    assert np.mean(equal) >= 0.995


def test_lattice_against_exact_on_a_public_photo(astronaut: np.ndarray) -> None:
    image = astronaut[100:150, 200:250]
    rows, columns = np.indices((50, 50))
    odds = 4 * gaussian_filter(np.where(np.hypot(rows - 25, columns - 25) < 15, 1.0, -1.0), 3)
    crf = DenseCRF(np.stack([np.zeros_like(odds), -odds]), [Bilateral(image, 60, 10, 3), Gaussian(1, 1)])
    lattice, oracle = crf.run(10, track=True), exact.run(crf, 10, track=True)
    assert abs(lattice.marginals - oracle.marginals).mean() <= 0.01
    assert (lattice.labels == oracle.labels).mean() >= 0.99
    np.testing.assert_allclose(lattice.kl, oracle.kl, rtol=0.02)


def test_any_features_volumes_and_flat_points() -> None:
    """A 3-D volume through `Kernel`: sharpened to its two halves, as by the exact solver."""
    rng = np.random.default_rng(6)
    volume = np.zeros((6, 8, 10), np.float32)
    volume[..., 5:] = 100
    volume += rng.normal(size=volume.shape)
    coordinates = np.indices(volume.shape) / 10
    features = np.concatenate([coordinates, volume[None] / 20])
    unary = np.stack([np.zeros(volume.shape), np.where(volume > 50, -1, 1) + rng.normal(size=volume.shape)])
    crf = DenseCRF(unary, [Kernel(features, 5)])
    result = crf.run(10)
    assert result.labels.shape == volume.shape
    assert (result.labels == (volume > 50)).all()
    assert (exact.run(crf, 10).labels == result.labels).all()
    flat = DenseCRF(unary.reshape(2, -1), [Kernel(features.reshape(4, -1), 5)]).run(10)
    assert (flat.marginals.reshape(result.marginals.shape) == result.marginals).all()


def test_a_flat_unary_takes_the_grid_of_the_image(astronaut: np.ndarray) -> None:
    image = astronaut[:20, :30]
    unary = smooth_unary(np.random.default_rng(7), 3, (20, 30))
    kernels = [Bilateral(image, 10, 10, 3), Gaussian(1, 1)]
    flat = DenseCRF(unary.reshape(3, -1), kernels).run(3)
    assert flat.marginals.shape == (3, 600)
    assert (flat.marginals.reshape(unary.shape) == DenseCRF(unary, kernels).run(3).marginals).all()


def test_one_lattice_serves_many_unaries_in_threads(astronaut: np.ndarray) -> None:
    """The same bits for 1, 2 and 8 threads, and as from a kernel of one's own."""
    image = astronaut[60:160, 180:300]
    rng = np.random.default_rng(8)
    shared = [Bilateral(image, 30, 10, 3), Gaussian(1, 1)]
    unaries = [smooth_unary(rng, 2 + i % 3, image.shape[:2]) for i in range(9)]
    expected = [DenseCRF(unary, [Bilateral(image, 30, 10, 3), Gaussian(1, 1)]).run(5).marginals for unary in unaries]
    for threads in (1, 2, 8):
        with ThreadPoolExecutor(threads) as pool:
            results = list(pool.map(lambda unary: DenseCRF(unary, shared).run(5).marginals, unaries))
        assert all((got == want).all() for got, want in zip(results, expected, strict=True))


def test_relabelling_permutes_the_result(astronaut: np.ndarray) -> None:
    image = astronaut[60:80, 180:220]
    unary = smooth_unary(np.random.default_rng(9), 5, (20, 40))
    kernels = [Bilateral(image, 10, 10, 3), Gaussian(1, 1)]
    order = [3, 0, 4, 1, 2]
    permuted = DenseCRF(unary[order], kernels).run(5).marginals
    np.testing.assert_allclose(permuted, DenseCRF(unary, kernels).run(5).marginals[order], atol=1e-5)


def test_a_constant_added_to_all_labels_changes_nothing() -> None:
    unary = smooth_unary(np.random.default_rng(10), 4, (10, 12))
    plain = DenseCRF(unary, [Gaussian(2, 1)]).run(5).marginals
    np.testing.assert_allclose(DenseCRF(unary + 7, [Gaussian(2, 1)]).run(5).marginals, plain, atol=1e-5)


def test_lab_and_grey_images() -> None:
    rng = np.random.default_rng(11)
    lab = rng.normal(size=(10, 12, 3)).astype(np.float32) * 30
    unary = smooth_unary(rng, 2, (10, 12))
    by_kernel = Kernel(Bilateral(lab, 5, 10, 3).features((10, 12)).reshape(5, 10, 12), 3)
    assert (
        DenseCRF(unary, [Bilateral(lab, 5, 10, 3)]).run().marginals == DenseCRF(unary, [by_kernel]).run().marginals
    ).all()
    assert Bilateral(lab[..., 0], 5, 10, 3).features((10, 12)).shape == (3, 120)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_finite_input_gives_finite_marginals(data: st.DataObject) -> None:
    """One pixel, 1xN, constant images, strides, dtypes, extreme energies and weights."""
    height, width = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    labels = data.draw(st.integers(1, 4))
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint8]))
    finite = {"allow_nan": False, "allow_infinity": False, "min_value": -6e4, "max_value": 6e4}
    if dtype == np.float32 and data.draw(st.booleans()):
        finite |= {"min_value": -(2.0**127), "max_value": 2.0**127}
    elements = finite if np.issubdtype(dtype, np.floating) else {}
    unary = data.draw(hnp.arrays(dtype, (labels, height, width), elements=elements))
    image = data.draw(hnp.arrays(np.uint8, (height, width, 3)))
    theta = data.draw(st.floats(1e-3, 1e6))
    weight = data.draw(st.floats(0, 1e9))
    options: dict[str, Any] = {
        "normalization": data.draw(st.sampled_from(NORMALIZATIONS)),
        "self_term": data.draw(st.booleans()),
    }
    if data.draw(st.booleans()):
        unary, image = unary[:, ::-1], image[::-1]
    crf = DenseCRF(unary, [Bilateral(image, theta, theta, weight, **options), Gaussian(theta, weight, **options)])
    try:
        result = crf.run(3, track=True)
    except ValueRangeError:
        assert theta < 1
        return
    assert np.isfinite(result.marginals).all()
    assert abs(result.marginals.sum(axis=0) - 1).max() <= 1e-5
    assert (result.marginals >= 0).all()


UNARY = np.zeros((2, 4, 5), np.float32)
IMAGE = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DenseCRF(np.zeros(5), []), ShapeError, "unary"),
        (lambda: DenseCRF(np.zeros((2, 0, 5)), []), ShapeError, "unary"),
        (lambda: DenseCRF(np.full((2, 4, 5), np.nan), []), ValueRangeError, "unary"),
        (lambda: DenseCRF(np.full((2, 4, 5), np.inf), []), ValueRangeError, "unary"),
        (lambda: DenseCRF(np.zeros((2, 4, 5), complex), []), ValueRangeError, "real numbers"),
        (lambda: DenseCRF(np.array([["a", "b"]]), []), ValueRangeError, "real numbers"),
        (lambda: DenseCRF(UNARY, [Bilateral(IMAGE[:3], 1, 1, 1)]).run(), ShapeError, "points"),
        (lambda: DenseCRF(UNARY, [Bilateral(IMAGE.transpose(1, 0, 2), 1, 1, 1)]).run(), ShapeError, "points"),
        (lambda: DenseCRF(UNARY, ["bilateral"]), ValueRangeError, "kernels"),  # type: ignore[list-item]
        (lambda: DenseCRF(np.zeros((2, 20)), [Gaussian(1, 1)]).run(), ShapeError, "grid"),
        (lambda: DenseCRF(UNARY, [], np.zeros(3)), ShapeError, "compatibility"),
        (lambda: DenseCRF(UNARY, [], np.full((2, 2), np.nan)), ValueRangeError, "compatibility"),
        (lambda: DenseCRF(UNARY, []).run(-1), ValueRangeError, "iterations"),
        (lambda: DenseCRF(UNARY, []).run(1.5), ValueRangeError, "iterations"),  # type: ignore[arg-type]
        (lambda: DenseCRF(UNARY, []).energy(np.zeros((5, 4), int)), ShapeError, "labels"),
        (lambda: DenseCRF(UNARY, []).energy(np.full((4, 5), 2)), ValueRangeError, "labels"),
        (lambda: Bilateral(IMAGE, 0, 1, 1), ValueRangeError, "theta_alpha"),
        (lambda: Bilateral(IMAGE, 1, -1, 1), ValueRangeError, "theta_beta"),
        (lambda: Bilateral(IMAGE, 1, np.nan, 1), ValueRangeError, "theta_beta"),
        (lambda: Bilateral(IMAGE, 1, 1, -1), ValueRangeError, "weight"),
        (lambda: Bilateral(IMAGE, 1, 1, np.inf), ValueRangeError, "weight"),
        (lambda: Bilateral(IMAGE, 1, 1, "much"), ValueRangeError, "weight"),  # type: ignore[arg-type]
        (lambda: Bilateral(IMAGE, 1, 1, 1, normalization="both"), ValueRangeError, "normalization"),  # type: ignore[arg-type]
        (lambda: Bilateral(IMAGE / np.float32(0) * 0, 1, 1, 1), ValueRangeError, "image"),
        (lambda: Bilateral(np.zeros((4, 5, 63)), 1, 1, 1), ShapeError, "image"),
        (lambda: Bilateral(np.zeros(4), 1, 1, 1), ShapeError, "image"),
        (lambda: Gaussian(0, 1), ValueRangeError, "theta_gamma"),
        (lambda: Kernel(np.zeros((65, 4)), 1), ShapeError, "features"),
        (lambda: Kernel(np.zeros(4), 1), ShapeError, "features"),
        (lambda: Kernel(np.full((2, 4), np.inf), 1), ValueRangeError, "features"),
        (lambda: DenseCRF(UNARY, [Bilateral(IMAGE + 200, 1, 1e-9, 1)]).run(), ValueRangeError, "bandwidths"),
        (lambda: two_label_marginals(np.zeros(5), [Gaussian(1, 1)]), ShapeError, "grid"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_bad_input_is_refused_in_one_sentence(call: Any, error: type[CrispmaskError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert "numba" not in str(caught.value).lower()
