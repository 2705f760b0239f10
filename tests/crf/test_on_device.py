"""`DenseCRF` on a torch device, here the CPU: the same marginals as from the compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="extra torch is not installed")

from crispmask.crf import Bilateral, DenseCRF, Gaussian, Kernel, on_device, two_label_marginals  # noqa: E402
from crispmask.crf import dense as dense_module  # noqa: E402
from crispmask.errors import ParamsError, ValueRangeError  # noqa: E402


@pytest.fixture
def torch_engine(monkeypatch: pytest.MonkeyPatch, torch_device: torch.device) -> None:
    """Any device is taken for one where tensors do the work."""
    monkeypatch.setattr(dense_module, "device_of", lambda device, values: torch_device)


def some_counts(rng: np.random.Generator, grid: tuple[int, ...]) -> np.ndarray | None:
    """Counts of points, some of them 0; or none, one time in two."""
    counts = rng.integers(0, 3, grid)
    counts[(0,) * len(grid)] = 1
    return counts if rng.random() < 0.5 else None


def scene(seed: int, labels: int, grid: tuple[int, ...], weight: float, **options: Any) -> tuple[np.ndarray, list[Any]]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (*grid, 3)).astype(np.uint8)
    kernels = [
        Bilateral(image, (6, 4), 40, 3 * weight, counts=some_counts(rng, grid), **options),
        Gaussian((1.2, 2), weight, **options),
        Kernel(rng.normal(size=(2, *grid)), weight, **options),
    ]
    return rng.normal(size=(labels, *grid)).astype(np.float32), kernels


@settings(max_examples=40, deadline=None)
@given(
    labels=st.sampled_from([1, 2, 3, 9]),
    grid=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    normalization=st.sampled_from(["none", "before", "after", "symmetric"]),
    self_term=st.booleans(),
    compatibility=st.sampled_from(["potts", "vector", "matrix"]),
    seed=st.integers(0, 100),
)
def test_equals_the_compiled_loops(
    torch_device: torch.device,
    labels: int,
    grid: tuple[int, int],
    normalization: Any,
    self_term: bool,
    compatibility: str,
    seed: int,
) -> None:
    weight = 0.02 if normalization == "none" else 1.0
    unary, kernels = scene(seed, labels, grid, weight, normalization=normalization, self_term=self_term)
    rng = np.random.default_rng(seed)
    matrix = rng.random((labels, labels)).astype(np.float32)
    mu = {"potts": None, "vector": matrix[0], "matrix": matrix + matrix.T}[compatibility]
    crf = DenseCRF(unary, kernels, mu)
    expected = crf.run(5).marginals
    energies = torch.from_numpy(crf.unary).to(torch_device)
    for graph in (False, True):
        found = on_device.infer(energies, crf.grid, crf.kernels, crf.penalty, 5, graph=graph)
        np.testing.assert_allclose(found.cpu().numpy().reshape(expected.shape), expected, atol=1e-5)


def test_tensors_in_tensors_out(torch_engine: None) -> None:
    unary, kernels = scene(0, 3, (9, 11), 1.0)
    expected = DenseCRF.run(DenseCRF(unary, kernels), 5)
    given = DenseCRF(
        torch.from_numpy(unary), [Bilateral(torch.from_numpy(kernels[0].image), (6, 4), 40, 3), *kernels[1:]]
    )
    seen: list[Any] = []
    result = given.run(5, track=True, observe=seen.append)
    assert isinstance(result.marginals, torch.Tensor)
    assert isinstance(result.labels, torch.Tensor)
    assert len(seen) == 6
    assert all(isinstance(q, torch.Tensor) for q in seen)
    np.testing.assert_allclose(result.marginals.cpu().numpy(), expected.marginals, atol=1e-5)
    np.testing.assert_array_equal(result.labels.cpu().numpy(), expected.labels)
    assert given.energy(result.labels) == pytest.approx(result.energy[-1])
    arrays = DenseCRF(unary, kernels, device="cuda").run(5)
    np.testing.assert_array_equal(arrays.marginals, result.marginals.cpu().numpy())


def test_tensors_on_the_cpu_are_for_the_compiled_loops() -> None:
    unary, kernels = scene(0, 2, (9, 11), 1.0)
    result = DenseCRF(torch.from_numpy(unary), kernels).run(5)
    assert isinstance(result.marginals, torch.Tensor)
    np.testing.assert_array_equal(result.marginals.numpy(), DenseCRF(unary, kernels, device="cpu").run(5).marginals)


def test_a_kernel_keeps_its_lattice(torch_engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    unary, kernels = scene(0, 2, (9, 11), 1.0)
    DenseCRF(unary, kernels).run(1)
    monkeypatch.setattr(on_device, "TorchLattice", None)  # another one would fail
    DenseCRF(unary[::-1], [kernels[0].reweighted(2.0), *kernels[1:]]).run(1)


@settings(max_examples=20, deadline=None)
@given(
    grids=st.lists(st.tuples(st.integers(1, 14), st.integers(1, 14)), max_size=6),
    seed=st.integers(0, 100),
)
def test_windows_as_one_lattice(torch_device: torch.device, grids: list[tuple[int, int]], seed: int) -> None:
    """Each as if it were alone, with weights and bandwidths of its own."""
    rng = np.random.default_rng(seed)
    odds, kernels = [], []
    for grid in grids:
        image = rng.integers(0, 255, (*grid, 3)).astype(np.uint8)
        alpha, beta, gamma = rng.uniform(2, 9), rng.uniform(5, 40), rng.uniform(0.5, 3)
        some: list[Any] = [Bilateral(image, alpha, beta, rng.uniform(1, 4), counts=some_counts(rng, grid))]
        if rng.random() < 0.8:
            some.append(Gaussian(gamma, rng.uniform(0, 2)))
        odds.append(2 * rng.normal(size=grid).astype(np.float32))
        kernels.append(some)
    found = on_device.infer_windows(odds, kernels, 6, torch_device)
    for o, k, q in zip(odds, kernels, found, strict=True):
        np.testing.assert_allclose(q.cpu().numpy(), two_label_marginals(o, k, 6), atol=1e-5)


def test_a_device_that_is_not_there() -> None:
    unary, kernels = scene(0, 2, (3, 3), 1.0)
    for device in ("cuda:77", "nonsense"):
        with pytest.raises(ParamsError, match="cannot be used"):
            DenseCRF(unary, kernels, device=device)
    with pytest.raises(ValueRangeError, match="finite"):
        DenseCRF(torch.full((2, 3, 3), torch.nan), kernels)
