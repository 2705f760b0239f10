from __future__ import annotations

import numpy as np

from crispmask.instances import Instances
from crispmask.training.refiner.perturb import perturb


def test_what_is_found_in_a_view_comes_back_to_its_place():
    y, x = np.mgrid[:120, :160]
    truth = (y - 60) ** 2 / 2 + (x - 80) ** 2 < 25**2
    image = np.where(truth[..., None], 220, 30).repeat(3, axis=2).astype(np.uint8)
    for seed in range(20):
        view = perturb(image, np.random.default_rng(seed), 0.7)
        found = Instances.from_masks(view.image.mean(axis=2) > (view.image.mean() + 20))
        back = view.restore(found, (120, 160)).mask(0)
        if view.corner == (0.0, 0.0) or back.sum() < 0.9 * truth.sum():  # parts may have been cut off
            continue
        assert (back & truth).sum() / (back | truth).sum() > 0.9


def test_what_lies_outside_is_dropped():
    image = np.zeros((60, 80, 3), np.uint8)
    view = perturb(image, np.random.default_rng(0), 1.0)
    empty = Instances.empty(view.image.shape[:2])
    assert len(view.restore(empty, (60, 80))) == 0


def test_the_same_draw_makes_the_same_view():
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    one, two = (perturb(image, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one.image, two.image)
