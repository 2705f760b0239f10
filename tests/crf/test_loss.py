"""The loss against the sum over all pairs, finite differences, and what the paper says of it."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")

from crispmask.crf.exact import kernel_matrix  # noqa: E402
from crispmask.crf.loss import DenseCRFLoss  # noqa: E402
from crispmask.errors import MissingExtraError, ParamsError, ShapeError  # noqa: E402


def soft_labels(seed: int, labels: int, shape: tuple[int, int]) -> torch.Tensor:
    """(1, L, H, W), smooth, as a network's."""
    coarse = torch.randn(1, labels, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    return torch.nn.functional.interpolate(coarse, size=shape, mode="bilinear").softmax(1)


def brute_force(s: torch.Tensor, image: torch.Tensor, alpha: float, beta: float, energy: str) -> float:
    """By the dense matrix, pair by pair."""
    rows, columns = np.indices(image.shape[2:])
    features = [columns / alpha, rows / alpha, *(image[0].numpy() / beta)]
    matrix = kernel_matrix(np.stack(features).reshape(len(features), -1))
    flat = s[0].reshape(s.shape[1], -1).numpy()
    return float(sum(k @ matrix @ (1 - k if energy == "potts" else -k) for k in flat))


def crop(astronaut: np.ndarray, y: int, x: int) -> torch.Tensor:
    return torch.from_numpy(astronaut[y : y + 40, x : x + 40].transpose(2, 0, 1).copy()).double()[None]


@pytest.mark.parametrize("energy", ["potts", "quadratic"])
@pytest.mark.parametrize("labels", [2, 3])
def test_equals_the_sum_over_all_pairs(astronaut: np.ndarray, energy: Any, labels: int) -> None:
    for seed, (y, x) in enumerate([(60, 200), (150, 180), (300, 80)]):
        image, s = crop(astronaut, y, x), soft_labels(seed, labels, (40, 40))
        for alpha, beta in ((100.0, 15.0), (20.0, 15.0)):
            expected = brute_force(s, image, alpha, beta, energy)
            loss = DenseCRFLoss(alpha, beta, energy=energy)
            assert float(loss(s, image)) == pytest.approx(expected, rel=1e-6)
            assert float(loss(s.float(), image.float())) == pytest.approx(expected, rel=1e-4)
            lattice = DenseCRFLoss(alpha, beta, energy=energy, engine="lattice")
            assert float(lattice(s, image)) == pytest.approx(expected, rel=0.02)


def test_reductions_of_a_batch(astronaut: np.ndarray) -> None:
    images = torch.cat([crop(astronaut, 60, 200), crop(astronaut, 300, 80)])
    s = torch.cat([soft_labels(k, 3, (40, 40)) for k in range(2)])
    for engine in ("exact", "lattice"):
        alone = [float(DenseCRFLoss(engine=engine)(s[k : k + 1], images[k : k + 1])) for k in range(2)]
        assert float(DenseCRFLoss(engine=engine)(s, images)) == pytest.approx(sum(alone) / 2)
        by_pixel = DenseCRFLoss(engine=engine, reduction="pixel")(s, images)
        assert float(by_pixel) == pytest.approx(sum(alone) / 3200)


@pytest.mark.parametrize("energy", ["potts", "quadratic"])
def test_gradcheck(energy: Any) -> None:
    random = torch.Generator().manual_seed(0)
    image = 100 * torch.rand(2, 3, 4, 5, generator=random, dtype=torch.float64)
    s = torch.rand(2, 3, 4, 5, generator=random, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 4, 5, dtype=torch.bool)
    mask[1, 2:] = False
    for engine in ("exact", "lattice"):
        loss = DenseCRFLoss(3.0, 40.0, energy=energy, engine=engine)  # type: ignore[arg-type]
        assert torch.autograd.gradcheck(lambda given: loss(given, image, mask), (s,))  # noqa: B023


def test_pixels_that_take_no_part(astronaut: np.ndarray) -> None:
    image, s = crop(astronaut, 60, 200), soft_labels(0, 2, (40, 40))
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[:, :30, :25] = True
    junk, noise = torch.where(mask, image, torch.nan), torch.where(mask[:, None], s, torch.inf)
    for engine in ("exact", "lattice"):
        for reduction in ("image", "pixel"):
            loss = DenseCRFLoss(20.0, engine=engine, reduction=reduction)  # type: ignore[arg-type]
            inside = loss(s[..., :30, :25], image[..., :30, :25])
            assert float(loss(noise, junk, mask)) == pytest.approx(float(inside), rel=1e-6)
        assert float(loss(s, image, torch.zeros_like(mask))) == 0


def test_half_scale_is_the_loss_of_the_reduced_image(astronaut: np.ndarray) -> None:
    image, s = crop(astronaut, 60, 200), soft_labels(0, 2, (40, 40))
    small = [torch.nn.functional.avg_pool2d(t, 2) for t in (image, s)]
    expected = DenseCRFLoss(10.0, 15.0)(small[1], small[0])
    assert float(DenseCRFLoss(20.0, 15.0, scale=0.5)(s, image)) == pytest.approx(float(expected))


def test_agreement_costs_nothing_and_edges_are_cheap(astronaut: np.ndarray) -> None:
    """Zero where all agree; a boundary costs less on the photo's edge than beside it."""
    image = torch.zeros(1, 3, 20, 20)
    image[..., 10:] = 200
    alike = torch.zeros(1, 2, 20, 20)
    alike[:, 0] = 1
    loss = DenseCRFLoss(10.0, 15.0)
    assert float(loss(alike, image)) == pytest.approx(0, abs=1e-2)
    energies = []
    for column in (10, 7):
        s = torch.zeros(1, 2, 20, 20)
        s[:, 0, :, :column] = s[:, 1, :, column:] = 1
        energies.append(float(loss(s, image)))
    assert energies[0] < 1e-3 * energies[1]


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "crispmask.crf.loss")
    with pytest.raises(MissingExtraError, match=r"crispmask\[torch\]"):
        importlib.import_module("crispmask.crf.loss")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"theta_alpha": 0.0}, "bandwidths"),
        ({"theta_beta": [1.0, -1.0]}, "bandwidths"),
        ({"scale": 2.0}, "scale"),
        ({"energy": "cut"}, "energy must be one of"),
        ({"reduction": "sum"}, "reduction must be one of"),
        ({"engine": "magic"}, "engine must be one of"),
    ],
)
def test_losses_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        DenseCRFLoss(**options)


@pytest.mark.parametrize(
    ("s", "image", "mask", "words"),
    [
        (torch.zeros(2, 5, 5), torch.zeros(1, 3, 5, 5), None, "probabilities must have shape"),
        (torch.zeros(1, 2, 5, 5), torch.zeros(1, 3, 5, 6), None, "image must have shape"),
        (torch.zeros(1, 2, 5, 5), torch.zeros(1, 3, 5, 5), torch.ones(1, 5, 5), "mask must be bool"),
    ],
)
def test_tensors_that_do_not_fit(s: torch.Tensor, image: torch.Tensor, mask: Any, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        DenseCRFLoss()(s, image, mask)
    with pytest.raises(ShapeError, match="channels"):
        DenseCRFLoss(theta_beta=[1.0, 2.0])(torch.zeros(1, 2, 5, 5), torch.zeros(1, 3, 5, 5))
