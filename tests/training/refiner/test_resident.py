from __future__ import annotations

import numpy as np
import pytest
import torch

from crispmask.errors import ModelError
from crispmask.training.refiner import cuts as cut_module
from crispmask.training.refiner import errors, tensor_errors
from crispmask.training.refiner import fit as fit_module
from crispmask.training.refiner.config import LearnConfig
from crispmask.training.refiner.cuts import PLANES, Cuts, cut_all
from crispmask.training.refiner.fit import fit
from crispmask.training.refiner.objects import chances, decode
from crispmask.training.refiner.resident import ResidentBatches
from crispmask.training.refiner.start import initial_network

pytestmark = pytest.mark.usefixtures("small_crops")

N = 16


def discs() -> torch.Tensor:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96] + 0.5
    made = [
        (y - rng.uniform(40, 56)) ** 2 + ((x - rng.uniform(40, 56)) * rng.uniform(0.7, 1.3)) ** 2
        < rng.uniform(18, 30) ** 2
        for _ in range(N)
    ]
    return torch.from_numpy(np.stack(made)[:, None].astype(np.float32))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a > 0.5, b > 0.5
    return float(((a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3)).clamp(min=1)).mean())


def test_boxes_and_their_prompts_are_those_of_arrays():
    masks = discs()
    boxes = tensor_errors.boxes(masks)
    prompts = tensor_errors.ellipses(boxes, 96)
    for mask, box, prompt in zip(masks[:, 0].numpy(), boxes.tolist(), prompts[:, 0].numpy(), strict=True):
        assert errors.bounds(mask) == tuple(box)
        np.testing.assert_array_equal(prompt, errors.ellipse(tuple(box), 96))


def test_blurring_is_that_of_arrays():
    masks = discs()
    found = tensor_errors.blurred(masks, 2.5)[:, 0].numpy()
    expected = [errors._blurred(mask, 2.5) for mask in masks[:, 0].numpy()]
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize("kind", ["mask_head", "prototypes", "wandering"])
def test_prompts_err_as_much_as_those_of_arrays(kind):
    masks = discs()
    found = np.mean([overlap(getattr(tensor_errors, kind)(masks, generator(k)), masks) for k in range(12)])
    rng = np.random.default_rng(0)
    arrays = [getattr(errors, kind)(mask, rng) for _ in range(6) for mask in masks[:, 0].numpy()]
    expected = overlap(torch.from_numpy(np.stack(arrays))[:, None], masks.repeat(6, 1, 1, 1))
    assert found == pytest.approx(expected, abs=0.06)


def test_clean_grids_are_those_of_arrays():
    masks = discs()
    for cells in (14, 28):
        box = tensor_errors.boxes(masks)
        found = tensor_errors._pasted(tensor_errors._over(masks, box, cells), box, 96)[:, 0].numpy()
        expected = [errors.grid(mask, cells) for mask in masks[:, 0].numpy()]
        assert np.abs(found - np.stack(expected)).mean() < 0.01


def test_crops_hold_the_object_and_survive_a_file(world, tmp_path):
    objects = world.objects
    made = cut_all(objects, tmp_path / "cuts.npz")
    again = cut_all([], tmp_path / "cuts.npz")  # from the file
    assert made.photos == again.photos
    assert made.masks == again.masks
    found = sum(bool(one.found) for one in objects)
    assert (again.found > 0).sum() == found > 0
    for i, one in enumerate(objects):
        rgb, masks = again.decoded(i)
        assert rgb.shape == (cut_module.CELLS, cut_module.CELLS, 3)
        assert masks.shape == (PLANES, cut_module.CELLS, cut_module.CELLS)
        side = 2 * max(one.box[2] - one.box[0], one.box[3] - one.box[1]) + 8
        area = (masks[0] > 127).sum() * (side / cut_module.CELLS) ** 2
        assert area == pytest.approx(decode([one.rle], one.image.size).sum(), rel=0.08)
        inside, outside = rgb[masks[0] > 250].mean(0), rgb[(masks[:2] < 5).all(0)].mean(0)
        assert inside[0] > 150 > outside[0]  # yellow on blue


def test_a_damaged_file_of_crops(tmp_path):
    path = tmp_path / "cuts.npz"
    Cuts((b"photo", b"other"), (b"mask", b"another"), np.zeros(2, np.int64)).save(path)
    whole = path.read_bytes()
    assert Cuts.load(path).photos == (b"photo", b"other")
    changed = whole.replace(b"photoother", b"photoOther")
    assert changed != whole
    for content in (b"nothing", b"", whole[:-30], whole[: len(whole) // 2], changed):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="remove it"):
            Cuts.load(path)


def resident(world, tmp_path, **more) -> ResidentBatches:
    objects = world.objects
    config = LearnConfig(**{"samples": 64, "batch_size": N, **more})
    return ResidentBatches(cut_all(objects, tmp_path / "cuts.npz"), chances(objects), config, "cpu")


def test_batches_follow_from_seed_and_step(world, tmp_path):
    batches, same = resident(world, tmp_path), resident(world, tmp_path)
    for a, b in zip(batches[2], same[2], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(batches[2][0], batches[3][0])
    assert not torch.equal(batches[2][0], resident(world, tmp_path, seed=1)[2][0])
    rgb, prompt, truth = batches[2]
    assert rgb.shape == (N, 3, 64, 64)
    assert prompt.shape == truth.shape == (N, 1, 64, 64)
    for part in (rgb, prompt, truth):
        assert part.min() >= 0
        assert part.max() <= 1
    assert 0.5 < overlap(prompt, truth) < 0.97
    assert len(list(batches.loader(1))) == len(batches) - 1 == 3


def test_a_network_learns_from_them_with_norms_and_comes_out_without(world, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "LEAST_BATCH", 4)
    batches = resident(world, tmp_path, samples=4 * 16, batch_size=4, learning_rate=1e-3)
    network, steps = fit(initial_network("none", 0, None), batches, tmp_path / "a.pt", workers=0)
    assert np.mean([one.loss for one in steps[-5:]]) < np.mean([one.loss for one in steps[:5]])
    assert set(network.state_dict()) == set(initial_network("none", 0, None).state_dict())
    again, _ = fit(initial_network("none", 0, None), batches, tmp_path / "a.pt", workers=0)  # nothing is left to do
    rgb, prompt, _ = batches[0]
    with torch.inference_mode():
        assert torch.equal(network(rgb, prompt), again(rgb, prompt))
