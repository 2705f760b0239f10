from __future__ import annotations

import numpy as np
import pytest
import torch

from crispmask.errors import ModelError, ParamsError
from crispmask.training.refiner import fit as module
from crispmask.training.refiner.batches import Batches
from crispmask.training.refiner.config import LearnConfig
from crispmask.training.refiner.fit import fit
from crispmask.training.refiner.network import MaskNetwork
from crispmask.training.refiner.start import initial_network

pytestmark = pytest.mark.usefixtures("small_crops")


def run(world, checkpoint, samples=10, **more):
    batches = Batches(world.objects, LearnConfig(samples=samples, batch_size=2, learning_rate=1e-3))
    return fit(initial_network("none", 0, None), batches, checkpoint, workers=0, **more)


def weights(network: MaskNetwork) -> list[bytes]:
    return [value.numpy().tobytes() for value in network.state_dict().values()]


def test_a_resumed_run_has_the_weights_of_an_undisturbed_one(world, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_EVERY", 2)
    whole, steps = run(world, tmp_path / "a.pt")

    def stop(step) -> None:
        if step.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path / "b.pt", on_step=stop)
    resumed, again = run(world, tmp_path / "b.pt")
    assert weights(whole) == weights(resumed)
    assert [one.loss for one in steps] == [one.loss for one in again]
    assert [one.step for one in again] == [1, 2, 3, 4, 5]


def test_two_runs_are_the_same(world, tmp_path):
    assert weights(run(world, tmp_path / "a.pt", 4)[0]) == weights(run(world, tmp_path / "b.pt", 4)[0])


def test_training_lowers_the_loss(world, tmp_path):
    _, steps = run(world, tmp_path / "a.pt", 48)
    assert np.mean([one.loss for one in steps[-6:]]) < np.mean([one.loss for one in steps[:6]])


def test_at_first_the_answer_is_the_prompt():
    network = initial_network("none", 0, None).eval()
    prompt = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        odds = network(torch.rand(1, 3, 64, 64), prompt)
    assert torch.equal(odds > 0, prompt > 0.5)


def test_a_damaged_checkpoint(world, tmp_path):
    (tmp_path / "a.pt").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="remove it"):
        run(world, tmp_path / "a.pt")


def test_a_device_that_there_is_not(world, tmp_path):
    with pytest.raises(ParamsError, match="'teapot'"):
        run(world, tmp_path / "a.pt", device="teapot")


def test_the_loss_counts_the_edge_most():
    truth = torch.zeros(1, 1, 64, 64)
    truth[..., 16:48, 16:48] = 1
    exact = 8 * truth - 4
    coarse = 8 * truth[..., ::4, ::4] - 4
    at_edge, far = exact.clone(), exact.clone()
    at_edge[..., 14:16, 20:40] = 4
    far[..., 2:4, 20:40] = 4
    best, worse, bad = (module.loss(odds, coarse, truth).item() for odds in (exact, far, at_edge))
    assert best < worse < bad
