"""`refine` on a torch device: the masks that it makes on the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")
onnx = pytest.importorskip("onnx", reason="extra torch is not installed")

from crispmask.errors import ModelError, ParamsError  # noqa: E402
from crispmask.instances import Instances  # noqa: E402
from crispmask.params import CRFParams  # noqa: E402
from crispmask.refinement import default_params, refine  # noqa: E402
from crispmask.refinement.network_on_device import MaskNetworkOnDevice  # noqa: E402


@pytest.fixture
def scene(astronaut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A photo of 128 x 160 pixels, and float32 (4, 128, 160): three masks that overlap, and an empty one."""
    image = np.ascontiguousarray(astronaut[40:296:2, 60:380:2])
    y, x = np.mgrid[:128, :160]
    discs = [
        (y - 60) ** 2 + (x - centre) ** 2 < radius**2 for centre, radius in ((50, 30), (85, 36), (120, 20), (0, 0))
    ]
    return image, np.stack(discs) * np.float32(0.9)


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a > 0.5) == (b > 0.5)).mean())


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("params", [None, CRFParams(iterations=4)])
def test_the_same_masks(on_tensors: None, scene: Any, params: Any, joint: bool) -> None:
    image, coarse = scene
    expected, reasons = refine(image, coarse, params, joint=joint, return_decisions=True)
    found, same_reasons = refine(image, coarse, params, joint=joint, device="cuda", return_decisions=True)
    assert agreement(found, expected) >= 0.999
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert [r and r.reason for r in same_reasons] == [r and r.reason for r in reasons]
    assert not np.allclose(found, coarse, atol=0.05)


def test_masks_from_boxes(on_tensors: None, scene: Any) -> None:
    """The network runs several times on them."""
    image, _ = scene
    boxes = [[20, 30, 80, 90], [50, 20, 120, 100]]
    expected, found = (refine(image, boxes=boxes, device=device) for device in (None, "cuda"))
    assert agreement(found.masks(), expected.masks()) >= 0.999


def test_the_network_on_tensors(scene: Any, torch_device: torch.device) -> None:
    """Crops of two sizes and numbers of passes, in order."""
    image, coarse = scene
    params = default_params()
    crops = [image[:128, :128], image[:96, :96], image[:128, 32:]]
    prompts = [np.ascontiguousarray(c[: len(i), : len(i)]) for c, i in zip(coarse, crops, strict=False)]
    passes = [1, 1, 2]
    found = MaskNetworkOnDevice(params.network, torch_device)(crops, prompts, passes)
    for odds, crop, prompt, times in zip(found, crops, prompts, passes, strict=True):
        expected = params.mask_network(np.ascontiguousarray(crop), prompt, times)
        np.testing.assert_allclose(odds, expected, atol=2e-3)


def test_a_network_that_runs_on_the_cpu_only() -> None:
    model = onnx.load_from_string(default_params().network)
    model.graph.node[0].op_type = "QuantizeLinear"
    changed = replace(default_params(), network=model.SerializeToString())
    with pytest.raises(ModelError, match=r"QuantizeLinear\): leave the device out"):
        MaskNetworkOnDevice(changed.network, torch.device("cpu"))
    with pytest.raises(ModelError, match="not one that crispmask learn wrote"):
        MaskNetworkOnDevice(b"nonsense", torch.device("cpu"))


def test_a_device_that_is_not_there(scene: Any) -> None:
    image, coarse = scene
    with pytest.raises(ParamsError, match="cannot be used"):
        refine(image, coarse, device="cuda:77")
    none = Instances.empty(image.shape[:2])
    assert len(refine(image, none, device="cpu")) == 0
