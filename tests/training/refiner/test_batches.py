from __future__ import annotations

import numpy as np
import pytest
import torch

from crispmask.errors import DataError
from crispmask.training.refiner.batches import Batches, sample
from crispmask.training.refiner.config import LearnConfig
from crispmask.training.refiner.objects import decode, read_objects, split

pytestmark = pytest.mark.usefixtures("small_crops")

CONFIG = LearnConfig(samples=12, batch_size=4)


def test_objects_know_their_masks_neighbours_and_detections(world):
    objects = world.objects
    assert len(objects) == 24  # two an image; the crowd is left out
    large, small = objects[:2]
    assert [len(one.found) for one in (large, small)] == [1, 0]
    assert len(large.others) == 1
    mask = decode([large.rle], large.image.size)
    x0, y0, x1, y1 = (int(v) for v in large.box)
    assert mask[y0:y1, x0:x1].sum() == mask.sum()
    assert np.array_equal(decode(large.others, large.image.size), decode([small.rle], small.image.size))
    found = decode([large.found[0][0]], large.image.size)
    assert np.array_equal(found[:, 2:], mask[:, :-2])


def test_whole_images_are_held_out(world):
    seen, unseen = split(world.objects, 0.25, 0)
    assert {one.image.number for one in unseen}.isdisjoint({one.image.number for one in seen})
    assert len({one.image.number for one in unseen}) == 3
    with pytest.raises(DataError, match="too few images"):
        split(world.objects[:2], 0.25, 0)


def test_crops_prompts_and_masks_lie_on_one_another(world):
    rgb, prompt, truth = Batches(world.objects, CONFIG)[0]
    assert rgb.shape == (4, 3, 64, 64)
    assert prompt.shape == truth.shape == (4, 1, 64, 64)
    for part in (rgb, prompt, truth):
        assert part.dtype == torch.float32
        assert 0 <= part.min() <= part.max() <= 1
    rng = np.random.default_rng(0)
    for one in world.objects[:6]:
        crop, _, mask = sample(one, 64, 0.0, rng)
        inside = crop[mask > 0.9].mean(0)
        assert inside[0] > inside[2]  # the disc is yellow, the ground blue


def test_a_batch_follows_from_seed_and_step(world):
    batches = Batches(world.objects, CONFIG)
    again = Batches(world.objects, CONFIG)
    assert all(torch.equal(a, b) for a, b in zip(batches[1], again[1], strict=True))
    assert not torch.equal(batches[1][1], batches[2][1])
    other = Batches(world.objects, LearnConfig(samples=12, batch_size=4, seed=1))
    assert not torch.equal(batches[1][1], other[1][1])


def test_another_process_makes_the_same_batches_in_order(world):
    batches = Batches(world.objects, CONFIG)
    for step, batch in enumerate(batches.loader(1, 1), start=1):
        assert all(torch.equal(a, b) for a, b in zip(batch, batches[step], strict=True))
    assert step == 2


def test_a_detectors_masks_are_prompts(world):
    one = world.objects[0]
    _, prompt, truth = sample(one, 64, 1.0, np.random.default_rng(3))
    off = prompt - truth  # two pixels to one side, that is in columns and not in rows
    assert 0.8 < (np.minimum(prompt, truth).sum() / np.maximum(prompt, truth).sum()) < 1
    assert np.abs(off.sum(1)).max() < 0.2 * np.abs(off.sum(0)).max()


def test_images_that_cannot_be_read_are_told(world, tmp_path):
    with pytest.raises(DataError, match=r"1\.png"):
        read_objects([type(world.source)(world.annotations, tmp_path)])


def test_results_that_match_nothing(world, tmp_path):
    (tmp_path / "r.json").write_text('[{"image_id": 99, "category_id": 1, "score": 0.5, "bbox": [0, 0, 1, 1]}]')
    with pytest.raises(DataError, match="no image with the id 99"):
        read_objects([type(world.source)(world.annotations, world.images, tmp_path / "r.json")])
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(DataError, match="no mask overlaps"):
        read_objects([type(world.source)(world.annotations, world.images, tmp_path / "r.json")])
