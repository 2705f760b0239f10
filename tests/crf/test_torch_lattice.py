"""The lattice on tensors equals the compiled one; the fused kernels equal the plain ones (in Triton's interpreter)."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="extra torch is not installed")

from crispmask.crf import PermutohedralLattice, torch_lattice  # noqa: E402
from crispmask.crf.torch_lattice import TorchLattice  # noqa: E402
from crispmask.errors import ShapeError, ValueRangeError  # noqa: E402


def features_of(seed: int, d: int, n: int, kind: str) -> np.ndarray:
    """float32 (d, N): scattered, with ties, or a chain of neighbours as pixels are."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(d, n)) * 2
    if kind == "ties":
        features = np.round(features)
    elif kind == "chain":
        features = np.cumsum(rng.normal(size=(d, n)) * 0.2, axis=1)
    return features.astype(np.float32)


def points(array: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.T)).to(device)


@settings(max_examples=40, deadline=None)
@given(
    d=st.sampled_from([1, 2, 3, 5, 8, 16, 24]),
    n=st.integers(1, 300),
    channels=st.integers(1, 9),
    kind=st.sampled_from(["random", "ties", "chain"]),
    seed=st.integers(0, 1000),
)
def test_equals_the_compiled_lattice(
    torch_device: torch.device, d: int, n: int, channels: int, kind: str, seed: int
) -> None:
    """The same simplices and weights to the bit; filters to the rounding of sums. Wide features need hashed keys."""
    features = features_of(seed, d, n, kind)
    values = np.random.default_rng(seed).normal(size=(channels, n)).astype(np.float32)
    compiled, lattice = PermutohedralLattice(features), TorchLattice(points(features, torch_device))
    assert lattice.vertices == compiled.vertices
    np.testing.assert_array_equal(lattice.weights.cpu().numpy(), compiled.weights)
    for ours, theirs in (
        (lattice.filter, compiled.filter),
        (lattice.transpose_filter, compiled.transpose_filter),
    ):
        expected = theirs(values)
        np.testing.assert_allclose(ours(points(values, torch_device)).cpu().numpy().T, expected, rtol=1e-5, atol=1e-5)
    if d <= 8:
        np.testing.assert_allclose(lattice.diagonal().cpu().numpy(), compiled.diagonal(), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    d=st.sampled_from([1, 2, 5, 16]),
    seed=st.integers(0, 1000),
)
def test_groups_do_not_see_each_other(torch_device: torch.device, sizes: list[int], d: int, seed: int) -> None:
    """Windows as one lattice: each as if it were alone; windows without points and of one point included."""
    rng = np.random.default_rng(seed)
    parts = [(rng.normal(size=(d, n)) * 0.5).astype(np.float32) for n in sizes]
    values = [rng.normal(size=(2, n)).astype(np.float32) for n in sizes]
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(torch_device)
    together = TorchLattice(points(np.concatenate(parts, 1), torch_device), groups)
    found = together.filter(points(np.concatenate(values, 1), torch_device))
    own = together.diagonal()
    for f, v, result, diagonal in zip(parts, values, torch.split(found, sizes), torch.split(own, sizes), strict=True):
        if f.shape[1]:
            alone = PermutohedralLattice(f)
            np.testing.assert_allclose(result.cpu().numpy().T, alone.filter(v), atol=1e-5)
            np.testing.assert_allclose(diagonal.cpu().numpy(), alone.diagonal(), atol=1e-5)


def test_hashes_that_collide_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of several words become one by multiplication; multipliers that mix points up are given up for others."""
    features = features_of(0, 24, 60, "random")
    expected = TorchLattice(points(features))
    real, asked = torch_lattice._multipliers, []

    def bad(count: int, seed: int) -> list[int]:
        asked.append(seed)
        return [1 << 62] * count if seed == 0 else real(count, seed)

    monkeypatch.setattr(torch_lattice, "_multipliers", bad)
    lattice = TorchLattice(points(features))
    assert asked == [0, 1]
    assert lattice.vertices == expected.vertices
    values = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(lattice.filter(values), expected.filter(values))


def test_same_bits_in_every_run(torch_device: torch.device) -> None:
    features, values = points(features_of(1, 5, 3000, "chain"), torch_device), torch.rand(3000, 3, device=torch_device)
    first = TorchLattice(features).filter(values)
    assert all(torch.equal(TorchLattice(features).filter(values), first) for _ in range(3))


def test_double_precision_and_its_gradient(torch_device: torch.device) -> None:
    """In float64 the derivative to the weights is that of finite differences: no point changes its simplex."""
    from crispmask.crf._lattice_autograd import _OwnFilter

    features = points(features_of(2, 3, 12, "chain"), torch_device).double().requires_grad_()
    random = torch.Generator().manual_seed(1)
    values = torch.randn(12, 2, dtype=torch.float64, generator=random).to(torch_device).requires_grad_()

    def filtered(f: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        lattice = TorchLattice(f)
        return _OwnFilter.apply(v, lattice.weights, lattice)

    assert torch.autograd.gradcheck(filtered, (features, values))
    assert torch.autograd.gradcheck(lambda f: TorchLattice(f).diagonal(), (features,))


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(3, 65), torch.zeros(3, 0)])
def test_shapes_that_are_no_features(bad: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match="features"):
        TorchLattice(bad)


def test_what_does_not_fit() -> None:
    lattice = TorchLattice(torch.zeros(4, 2))
    for values in (torch.zeros(3, 1), torch.zeros(4), torch.zeros(4, 1, dtype=torch.float64)):
        with pytest.raises(ShapeError, match="values"):
            lattice.filter(values)
    with pytest.raises(ShapeError, match="groups"):
        TorchLattice(torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64))
    for number in (float("nan"), float("inf"), 1e30):
        with pytest.raises(ValueRangeError, match="features"):
            TorchLattice(torch.full((4, 2), number))


def test_a_word_where_triton_is_missing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from crispmask.crf import _tensor_kernels

    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "crispmask.crf._triton_kernels", raising=False)
    monkeypatch.setattr("crispmask.crf._triton_kernels", None, raising=False)
    monkeypatch.delattr("crispmask.crf._triton_kernels")
    _tensor_kernels._fused.cache_clear()
    assert _tensor_kernels.for_device(torch.device("cuda")) is _tensor_kernels.PLAIN
    assert "Triton is missing" in caplog.text
    assert _tensor_kernels.for_device(torch.device("cpu")) is _tensor_kernels.PLAIN
    _tensor_kernels._fused.cache_clear()


INTERPRETED = """
import torch
from crispmask.crf import _tensor_kernels as plain, _triton_kernels as fused
from crispmask.crf.torch_lattice import TorchLattice

fused._PIECE = fused._WIDE_PIECE = fused._SPARSE_PIECE = 16  # vertices with more entries are divided
random = torch.Generator().manual_seed(0)
choose = plain.for_device
cases = (1, 0, 1, "float32"), (2, 1, 3, "float32"), (5, 50, 1, "float32"), (3, 30, 40, "float64"), (24, 5, 2, "float32")
for d, n, channels, dtype in cases:
    dtype = getattr(torch, dtype)
    features = torch.cumsum(0.3 * torch.randn(n, d, dtype=dtype, generator=random), 0)
    features[: n // 2] = (2 * features[: n // 2]).round() / 2  # ties
    values = torch.randn(n, channels, dtype=dtype, generator=random)
    for groups in (None, torch.arange(n) % 3):
        plain.for_device = choose
        lattice = TorchLattice(features, groups)
        expected = lattice.filter(values), lattice.transpose_filter(values)
        plain.for_device = lambda device: fused
        ours = TorchLattice(features, groups)
        for name in ("weights", "corners", "around", "_ranks"):
            assert torch.equal(getattr(ours, name), getattr(lattice, name)), name
        for fused._DENSE in (0, 10**9):
            torch.testing.assert_close((ours.filter(values), ours.transpose_filter(values)), expected)
for windows, length in ((1, 9), (2, 2)):
    values, taps = torch.randn(4, length, 5, generator=random), torch.rand(windows, 4, generator=random)
    torch.testing.assert_close(fused.convolve(values, taps), plain.convolve(values, taps))
"""


@pytest.mark.slow
def test_the_fused_kernels_are_the_plain_ones() -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
