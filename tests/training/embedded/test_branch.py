"""RoIAlign as matrix products."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")
torchvision = pytest.importorskip("torchvision", reason="extra torch is not installed")

from crispmask.training.embedded.branch import SIDE, MaskBranch, align, aligned  # noqa: E402
from crispmask.training.embedded.nanodet import Maps  # noqa: E402


def boxes(count, height, width):
    """Random boxes (N, 4) inside of a map, from a fraction of a cell to all of it."""
    corners = torch.rand(count, 2, 2).sort(1).values * torch.tensor([width, height])
    return corners.reshape(count, 4)


def test_alignment_is_torchvisions():
    torch.manual_seed(0)
    x, some = torch.randn(5, 13, 17), boxes(40, 13, 17)
    rois = torch.cat([torch.zeros(40, 1), some], 1)
    expected = torchvision.ops.roi_align(x[None], rois, 7, 1.0, 4, True)
    torch.testing.assert_close(align(x, some, 7), expected, atol=1e-5, rtol=0)


def test_outside_of_a_map_its_edge_goes_on():
    x = torch.arange(12.0).reshape(1, 3, 4)
    found = align(x, torch.tensor([[-20.0, -20.0, -10.0, -10.0], [50.0, 50.0, 60.0, 60.0]]), 2)
    assert (found[0] == x[0, 0, 0]).all()
    assert (found[1] == x[0, -1, -1]).all()


def test_masks_of_many_boxes_are_those_of_each():
    torch.manual_seed(0)
    maps = Maps(
        (torch.randn(1, 64, 24, 32), torch.randn(1, 128, 12, 16)),
        (torch.randn(1, 128, 12, 16), torch.randn(1, 128, 6, 8), torch.randn(1, 128, 3, 4)),
    )
    some, branch = boxes(3, 96, 128), MaskBranch().eval()
    with torch.inference_mode():
        together = branch(*aligned(maps, some))
        each = [branch(*aligned(maps, one[None]))[0] for one in some]
    assert together.shape == (3, SIDE, SIDE)
    torch.testing.assert_close(together, torch.stack(each), atol=1e-4, rtol=0)
