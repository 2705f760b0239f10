from __future__ import annotations

import numpy as np
import pytest
import torch

from crispmask.errors import ModelError
from crispmask.instances import Instances
from crispmask.refinement.network import UnaryNetwork as OnnxNetwork
from crispmask.training.refiner import fit as module
from crispmask.training.refiner.degrade import blur, degrade
from crispmask.training.refiner.export import export_network
from crispmask.training.refiner.fit import Batches, fit
from crispmask.training.refiner.network import UnaryNetwork
from crispmask.training.refiner.store import cut


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def crops():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:80, :80]
    made = []
    for k in range(8):
        truth = (y - 40) ** 2 + (x - 38 - k / 2) ** 2 < (15 + k) ** 2
        image = np.where(truth[..., None], (210, 180, 60), (40, 60, 120)) + rng.normal(0, 8, (80, 80, 3))
        one = Instances.from_masks(truth)
        made.append(cut(np.clip(image, 0, 255).astype(np.uint8), one.windows[0], one.boxes[0], k))
    return made


def small(crops, checkpoint, steps=4, **more):
    return fit(crops, checkpoint, steps=steps, batch_size=2, side=32, **more)


def test_a_resumed_run_has_the_weights_of_an_undisturbed_one(crops, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_EVERY", 2)
    whole = small(crops, tmp_path / "a.pt").learnt()

    def stop(step: int, value: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(crops, tmp_path / "b.pt", on_step=stop)
    resumed = small(crops, tmp_path / "b.pt").learnt()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(ModelError, match="other settings"):
        small(crops, tmp_path / "b.pt", steps=5)


def test_training_lowers_the_loss(crops):
    seen = []
    small(crops, None, steps=24, learning_rate=5e-3, on_step=lambda step, value: seen.append(value))
    assert np.mean(seen[-8:]) < np.mean(seen[:8])


def test_the_exported_file_computes_the_same(crops):
    torch.manual_seed(0)
    network = UnaryNetwork().eval()
    torch.nn.init.normal_(network.out.weight, std=0.05)
    exported = OnnxNetwork(export_network(network, 32))
    mask = crops[0].truth.astype(np.float32) / 255
    odds, _, grid, better = exported(crops[0].image, mask)
    assert odds.shape == mask.shape
    assert grid.shape == better.shape == (32, 32)
    again = exported(crops[0].image, mask)
    assert np.array_equal(odds, again[0])


def test_another_file_is_no_network():
    with pytest.raises(ModelError, match="crispmask learn"):
        OnnxNetwork(b"no model")


def test_samples_hold_what_was_cut(crops):
    image, probability, sizes, truth = Batches(crops, 32, 0.2, 8).draw(6, (0, 1))
    assert image.shape == (6, 3, 32, 32)
    assert probability.shape == truth.shape == (6, 1, 32, 32)
    assert 0 <= probability.min() <= probability.max() <= 1
    bright = image[:, 0] > image[:, 2]  # the disc is yellow, the ground blue
    assert ((bright == (truth[:, 0] > 0.5)).float().mean((1, 2)) > 0.9).all()
    assert ((sizes > 30) & (sizes < 81)).all()


def test_degraded_masks_are_worse_and_still_the_same_object(crops):
    truth = torch.from_numpy(np.stack([c.truth for c in crops] * 8)).float()[:, None] / 255
    masks, binary = degrade(truth, torch.Generator().manual_seed(0))
    hard, exact = masks > 0.5, truth > 0.5
    ious = (hard & exact).sum((1, 2, 3)) / (hard | exact).sum((1, 2, 3))
    assert 0.6 < ious.mean() < 0.97
    assert (masks[binary] == hard[binary].float()).all()
    assert 0 < binary.sum() < len(binary)


def test_blur_is_a_gaussian_of_the_given_width():
    point = torch.zeros(2, 1, 41, 41)
    point[:, :, 20, 20] = 1
    sigma = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    spread = blur(point, sigma)
    offsets = torch.arange(41) - 20.0
    variance = (spread.sum(3)[:, 0] * offsets**2).sum(1) / spread.sum((1, 2, 3))
    assert torch.allclose(variance.sqrt(), torch.tensor([1.0, 3.0]), rtol=0.02)
