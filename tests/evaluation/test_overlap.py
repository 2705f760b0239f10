"""IoU and boundary IoU against their definitions, written in the simplest way."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as reference
from scipy.ndimage import binary_erosion

from crispmask.coco import mask_to_rle
from crispmask.coco.runs import MaskRuns
from crispmask.evaluation.overlap import boundaries, boundary_width, mask_overlaps, overlaps

# Widths of 2 % of the diagonal that end in a half (7.5, 12.5, 2.5), that are below a pixel, that exceed a side.
SIZES = [(225, 300), (300, 225), (375, 500), (75, 100), (90, 41), (17, 230), (3, 3), (1, 40)]


def reference_boundary(mask: np.ndarray) -> np.ndarray:
    """As ``mask_to_boundary`` of the paper's authors, with SciPy in place of OpenCV: d erosions by 3 x 3 pixels."""
    height, width = mask.shape
    d = int(round(0.02 * np.sqrt(height**2 + width**2)))  # noqa: RUF046 - as it stands there
    d = max(d, 1)
    return mask & ~binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=d)[1:-1, 1:-1]


def pixels(runs: MaskRuns, k: int) -> np.ndarray:
    """Mask k, bool (H, W)."""
    flat = np.zeros(int(runs.heights[k] * runs.widths[k]), bool)
    for s in range(runs.first[k], runs.first[k] + runs.count[k]):
        flat[runs.starts[s] : runs.ends[s]] = True
    return flat.reshape(runs.widths[k], runs.heights[k]).T


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(225, 300, 8), (375, 500, 12), (75, 100, 2), (480, 640, 16), (427, 640, 15), (30, 40, 1), (3, 3, 1)],
)
def test_a_half_goes_to_the_even_width(height, width, expected):
    assert boundary_width(np.array([height]), np.array([width])).tolist() == [expected]


@pytest.mark.parametrize("size", SIZES)
def test_boundaries_are_those_of_the_reference_code(size):
    """Noise, holes and parts."""
    random = np.random.default_rng(sum(size))
    masks = [random.random(size) < share for share in (0.02, 0.5, 0.98, 1.1)]
    block = np.ones(size, bool)
    block[size[0] // 2, size[1] // 2] = block[0, 0] = False
    masks += [block, np.roll(block, 7, axis=1), np.zeros(size, bool)]
    found = boundaries(MaskRuns.from_masks(masks))
    for k, mask in enumerate(masks):
        expected = reference_boundary(mask)
        assert np.array_equal(pixels(found, k), expected), k
        assert found.area[k] == expected.sum()


def square(size: tuple[int, int], y: int, x: int, side: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y : y + side, x : x + side] = True
    return mask


@pytest.mark.parametrize("size", [(225, 300), (375, 500), (75, 100)])
def test_overlaps_are_those_of_the_reference(size):
    one, other = square(size, 10, 20, 50), square(size, 13, 24, 50)
    encoded = [reference.encode(np.asfortranarray(m, np.uint8)) for m in (one, other)]
    bands = reference_boundary(one), reference_boundary(other)
    area, boundary = mask_overlaps(one, other)
    assert area == pytest.approx(float(reference.iou([encoded[0]], [encoded[1]], [0])[0, 0]))
    assert boundary == pytest.approx((bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum())
    assert overlaps(mask_to_rle(one), mask_to_rle(other), *size) == (area, boundary)
    assert 0 < boundary < area


def test_equal_and_empty_masks():
    mask, nothing = square((40, 50), 3, 4, 20), np.zeros((40, 50), bool)
    assert mask_overlaps(mask, mask) == (1, 1)
    assert mask_overlaps(mask, nothing) == (0, 0)
    assert mask_overlaps(nothing, nothing) == (0, 0)
