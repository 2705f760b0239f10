"""`refine` on a torch device: the masks that it makes on the CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")
onnx = pytest.importorskip("onnx", reason="extra torch is not installed")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from crispmask.errors import ModelError, ParamsError  # noqa: E402
from crispmask.instances import Instances  # noqa: E402
from crispmask.params import CRFParams  # noqa: E402
from crispmask.refinement import LearnedParams, crops, default_params, instance, on_device, refine, windows  # noqa: E402
from crispmask.refinement.answer import POSSIBLE, Answer, bounds  # noqa: E402
from crispmask.refinement.features import instance_features  # noqa: E402
from crispmask.refinement.gate import Gate  # noqa: E402
from crispmask.refinement.instance import InstanceView  # noqa: E402
from crispmask.refinement.network_on_device import MaskNetworkOnDevice  # noqa: E402
from crispmask.refinement.on_device import solved  # noqa: E402
from crispmask.refinement.tensor_features import looked_at  # noqa: E402


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


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Rounding may put a point between two simplices of the lattice into either: a few marginals then differ."""
    apart = np.abs(found - expected)
    assert (apart > 1e-3).mean() <= 1e-3
    assert apart.max() <= 0.1


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("params", [replace(default_params(), gated="none"), CRFParams(iterations=4)])
def test_the_same_masks(on_tensors: None, scene: Any, params: Any, joint: bool) -> None:
    image, coarse = scene
    expected, reasons = refine(image, coarse, params, joint=joint, return_decisions=True)
    found, same_reasons = refine(image, coarse, params, joint=joint, device="cuda", return_decisions=True)
    assert agreement(found, expected) >= 0.999
    assert_close(found, expected)
    assert [r and r.reason for r in same_reasons] == [r and r.reason for r in reasons]
    assert not np.allclose(found, coarse, atol=0.05)


@pytest.mark.parametrize("joint", [False, True])
def test_masks_refined_within_reach(on_tensors: None, scene: Any, joint: bool) -> None:
    image, coarse = scene
    gate = Gate.constant(-1, 0, near_gain=0.01, near_margin=0.0)
    params = replace(default_params(), binary_gate=gate, soft_gate=gate, reach=0.03)
    masks = coarse[:3] > 0.5
    expected, found = (refine(image, masks, params, joint=joint, device=device) for device in (None, "cuda"))
    assert agreement(found, expected) >= 0.999
    assert 0.8 < agreement(found, masks) < 1


@pytest.mark.parametrize("joint", [False, True])
def test_empty_masks(on_tensors: None, scene: Any, joint: bool) -> None:
    image, coarse = scene
    assert not refine(image, coarse[3:], joint=joint, device="cuda").any()


def test_masks_from_boxes(on_tensors: None, scene: Any) -> None:
    """The network runs several times on them."""
    image, _ = scene
    boxes = [[20, 30, 80, 90], [50, 20, 120, 100]]
    expected, found = (refine(image, boxes=boxes, device=device) for device in (None, "cuda"))
    assert agreement(found.masks(), expected.masks()) >= 0.999


def test_what_the_gate_sees(scene: Any, torch_device: torch.device) -> None:
    """Features and bounds from tensors are those of the answers, one by one; also where there is no mask."""
    image, coarse = scene
    params = default_params()
    views = [InstanceView.of(image, Instances.from_masks(coarse[:3]), i) for i in range(3)]
    odds = np.stack([params.answer(view).odds for view in views])
    odds[2] = -5
    odds[2, 100:120, 30:50] = -1  # possible, though no mask
    answers = [Answer(view.crop, view.prompt, own) for view, own in zip(views, odds, strict=True)]
    prompts = torch.from_numpy(np.stack([view.prompt for view in views])).to(torch_device)
    features, found, masks, possible = looked_at(views, prompts, torch.from_numpy(odds).to(torch_device))
    for view, answer, *ours in zip(views, answers, features, found, masks, possible, strict=True):
        np.testing.assert_allclose(ours[0], instance_features(view, answer), rtol=1e-4, atol=1e-5)
        assert ours[1:] == [answer.mask.any(), bounds(answer.mask), bounds(answer.odds > POSSIBLE)]
    assert found == [True, True, False]


def test_instances_of_several_images(scene: Any, torch_device: torch.device) -> None:
    """Views of images of two sizes are worked on at the same time, and come out as they do alone."""
    image, coarse = scene
    small = np.ascontiguousarray(image[10:110, 20:140])
    masks = {id(image): coarse[:2], id(small): coarse[1:3, 10:110, 20:140]}
    views = [
        InstanceView.of(pixels, Instances.from_masks(masks[id(pixels)]), i, from_box=pixels is small)
        for i in range(2)
        for pixels in (image, small)
    ]
    params = default_params().with_overrides({"gated": "none"})
    together = {one.number: one for some in solved(views, params, torch_device) for one in some}
    assert sorted(together) == [0, 1, 2, 3]
    for i, view in enumerate(views):
        ((alone,),) = solved([view], params, torch_device)
        assert together[i].decision.reason == alone.decision.reason == params.decide(view)[1].reason
        assert together[i].rect == alone.rect
        assert_close(together[i].marginals, alone.marginals)


@pytest.mark.parametrize("from_box", [False, True])
def test_no_tensor_is_left_on_the_cpu(scene: Any, monkeypatch: pytest.MonkeyPatch, from_box: bool) -> None:
    """Tensors without values say they were on a GPU, and refuse to be mixed with others: no GPU is needed."""
    image, coarse = scene
    views = [InstanceView.of(image, Instances.from_masks(coarse[:2]), i, from_box) for i in range(2)]
    params, told = default_params().with_overrides({"gated": "none"}), []

    def transferred(tensor: Any) -> Any:
        told.append((tensor.device.type, tuple(tensor.shape)))
        return SimpleNamespace(numpy=lambda: np.ones(tensor.shape, np.float32))

    class Asked(Exception):
        pass

    def infer_points(odds: Any, colours: Any, windows: Any, *_: Any) -> Any:
        told.append((odds.device.type, tuple(colours.shape)))
        raise Asked

    network = lambda images, prompts, passes: prompts - images.mean(3)  # noqa: E731
    monkeypatch.setattr(LearnedParams, "network_on", lambda self, device: network)
    monkeypatch.setattr(on_device, "infer_points", infer_points)
    monkeypatch.setattr(torch.Tensor, "cpu", transferred)
    with FakeTensorMode(), pytest.raises(Asked):
        next(solved(views, params, torch.device("cuda")))
    (first, shape), (second, (pixels, channels)) = told
    assert first == second == "cuda"
    assert shape[0] == 2
    assert (pixels > 0, channels) == (True, 3)


def test_few_pixels_at_a_time(scene: Any, torch_device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    image, coarse = scene
    views = [InstanceView.of(image, Instances.from_masks(coarse[:3]), i) for i in range(3)]
    params = default_params().with_overrides({"gated": "none"})
    (together,) = solved(views, params, torch_device)
    monkeypatch.setattr(on_device, "_MOST_POINTS", 22_000)  # one window and two, on lattices of their own
    apart = list(solved(views, params, torch_device))
    assert [[one.number for one in some] for some in apart] == [[0], [1, 2]]
    for one, own in zip(together, (one for some in apart for one in some), strict=True):
        assert_close(one.marginals, own.marginals)


def test_windows_at_a_lower_resolution(on_tensors: None, scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    image, coarse = scene
    monkeypatch.setattr(windows, "MAX_PIXELS", 2000)
    expected, found = (refine(image, coarse[:2], device=device) for device in (None, "cuda"))
    assert agreement(found, expected) >= 0.999
    assert_close(found, expected)


def test_objects_that_are_averaged_first(on_tensors: None, scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops of more than four times as many pixels as cells, on each side."""
    image, coarse = scene
    monkeypatch.setattr(instance, "WIDE", (crops.Frame(1.5, 32),))
    large = [
        np.ascontiguousarray(array.repeat(3, -2 - k).repeat(3, -1 - k)) for k, array in ((1, image), (0, coarse[:2]))
    ]
    views = [InstanceView.of(large[0], Instances.from_masks(large[1]), i) for i in range(2)]
    assert all(view.crop.shrink > 1 for view in views)
    expected, found = (refine(*large, device=device) for device in (None, "cuda"))
    assert agreement(found, expected) >= 0.999


def test_the_network_on_tensors(scene: Any, torch_device: torch.device) -> None:
    image, coarse = scene
    params = default_params()
    parts, prompts = np.stack([image[:, :128], image[:, 32:]]), np.ascontiguousarray(coarse[:2, :, :128])
    network = MaskNetworkOnDevice(params.network, torch_device)
    for passes in (1, 2):
        found = network(*(torch.from_numpy(given).to(torch_device).float() for given in (parts, prompts)), passes)
        for odds, crop, prompt in zip(found.cpu().numpy(), parts, prompts, strict=True):
            np.testing.assert_allclose(odds, params.mask_network(crop, prompt, passes), atol=2e-3)


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="extra torch is older than 2.9")
@pytest.mark.parametrize("chosen", ["tf32", "ieee"])
def test_the_users_precision_stays(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    """Several threads use the network at full precision, also where the user's choices differ between operations."""
    cudnn, seen = torch.backends.cudnn, []
    network = MaskNetworkOnDevice(default_params().network, torch.device("cpu"))
    once = network._once
    monkeypatch.setattr(network, "_once", lambda given: seen.append(cudnn.conv.fp32_precision) or once(given))
    before = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = chosen, "ieee"
    try:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: network(torch.zeros(1, 32, 32, 3), torch.zeros(1, 32, 32)), range(9)))
        assert seen == ["ieee"] * 9
        assert cudnn.conv.fp32_precision == chosen
    finally:
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before


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
