from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispmask.refinement.crops import Crop
from crispmask.training.refiner import errors
from crispmask.training.refiner.errors import KINDS, draw_patch_prompt, draw_prompt


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a > 0.5) & (b > 0.5)).sum() / ((a > 0.5) | (b > 0.5)).sum())


def disc(size: int, radius: float, x: float = 0.5, y: float = 0.5) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] + 0.5
    return ((rows - y * size) ** 2 + (columns - x * size) ** 2 < (radius * size) ** 2).astype(np.float32)


@st.composite
def masks(draw) -> np.ndarray:
    """Discs of any size and place, cut at the crop's sides; also empty and full ones, and rims that are shared."""
    size = draw(st.sampled_from([32, 64, 96]))
    made = disc(size, *(draw(st.floats(low, high)) for low, high in ((0, 1.2), (0, 1), (0, 1))))
    return errors._blurred(made, 0.7) if draw(st.booleans()) else made


def is_prompt(prompt: np.ndarray, size: int) -> bool:
    return (
        prompt.shape == (size, size)
        and prompt.dtype == np.float32
        and bool(np.isfinite(prompt).all())
        and bool(prompt.min() >= -1e-6)
        and bool(prompt.max() <= 1 + 1e-6)
    )


@settings(max_examples=40, deadline=None)
@given(masks(), masks(), st.integers(0, 2**32), st.sampled_from([12, 40, 300]))
def test_every_prompt_is_a_probability_map(mask, others, seed, side):
    others = np.resize(others, mask.shape)
    rgb = np.random.default_rng(seed).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
    for make, _ in KINDS.values():
        assert is_prompt(make(mask, others, rgb, np.random.default_rng(seed)), len(mask))
    for k in range(3):
        assert is_prompt(draw_prompt(mask, others, rgb, side, np.random.default_rng((seed, k))), len(mask))
    assert is_prompt(draw_patch_prompt(mask, np.random.default_rng(seed)), len(mask))
    assert is_prompt(errors.scribbles(mask, np.random.default_rng(seed)), len(mask))


def test_the_same_draw_makes_the_same_prompt():
    mask, rgb = disc(64, 0.3), np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)

    def made(seed: int) -> bytes:
        return draw_prompt(mask, np.zeros_like(mask), rgb, 64, np.random.default_rng(seed)).tobytes()

    assert all(made(seed) == made(seed) for seed in range(30))
    assert len({made(seed) for seed in range(30)}) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_coarse_masks_stay_the_same_object(kind):
    mask = disc(128, 0.3)
    rgb = np.where(mask[..., None] > 0, (200, 170, 70), (60, 70, 110)).astype(np.uint8)
    make, _ = KINDS[kind]
    found = [overlap(make(mask, np.zeros_like(mask), rgb, np.random.default_rng(seed)), mask) for seed in range(12)]
    assert np.mean(found) > 0.7
    if kind != "GrabCut":  # which finds a disc of one colour exactly
        assert np.mean(found) < 0.999


def test_a_coarser_grid_is_further_off():
    mask = disc(128, 0.3, 0.48)
    assert (
        overlap(errors.grid(mask, 28), mask)
        > overlap(errors.grid(mask, 14), mask)
        > overlap(errors.grid(mask, 5), mask)
    )


def test_a_polygon_is_within_its_tolerance():
    mask = disc(128, 0.3)
    for seed in range(5):
        drawn = errors.polygon(mask, np.random.default_rng(seed))
        reach = (0.055 * 0.6 * 128 + 1.5) / 128
        assert drawn[disc(128, 0.3 - reach) > 0].all()
        assert not drawn[disc(128, 0.3 + reach) == 0].any()


def test_scribbles_lie_on_their_side():
    mask = disc(128, 0.3)
    for seed in range(10):
        prompt = errors.scribbles(mask, np.random.default_rng(seed))
        assert (mask[prompt == 1] > 0).mean() > 0.8
        assert (prompt == 1).any()


def test_boxes_make_the_prompts_that_refine_makes():
    box = (10.0, 12.0, 40.0, 50.0)
    assert np.array_equal(errors.ellipse(box, 64), Crop(0, 0, 64, 64).ellipse(box))
    assert errors.bounds(errors.ellipse(box, 64)) == box


def test_a_binary_mask_of_few_pixels_has_their_corners():
    fine = errors._blurred(disc(128, 0.3), 3)
    coarse = errors.binarised(fine, 16)
    assert set(np.unique(errors.binarised(fine, 128))) == {0, 1}
    assert overlap(coarse, fine) < overlap(errors.binarised(fine, 64), fine)
