"""The exported file gives what torch gives, and the comparison with the original graph sees what differs."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")
pytest.importorskip("torchvision", reason="extra torch is not installed")

from crispmask.detectors import load_detector  # noqa: E402
from crispmask.detectors.canvas import network_input, to_instances  # noqa: E402
from crispmask.training.embedded.branch import MaskBranch  # noqa: E402
from crispmask.training.embedded.export import export  # noqa: E402
from crispmask.training.embedded.nanodet import NanoDet  # noqa: E402
from crispmask.training.embedded.network import CANVAS, DIVISOR, EmbeddedNetwork  # noqa: E402


@pytest.fixture
def network():
    """Weights at random, as float16 can hold them; some of them are scaled so that there are boxes to compare."""
    torch.manual_seed(1)
    detector, branch = NanoDet().eval(), MaskBranch().eval()
    with torch.no_grad():
        for head in detector.heads:
            head[1].weight *= 20
            head[1].bias[:80] -= 2
        for parameter in detector.parameters():
            parameter.copy_(parameter.half())
    return EmbeddedNetwork(detector, branch).eval()


def test_the_file_gives_what_torch_gives(network, tmp_path, astronaut):
    export(network.detector, network.branch, tmp_path / "made.onnx")
    detector = load_detector(tmp_path / "made.onnx")
    canvas, size = network_input(astronaut[:300], CANVAS, CANVAS, DIVISOR)
    with torch.inference_mode():
        boxes, scores, labels, masks = (x.numpy() for x in network(torch.from_numpy(canvas), torch.tensor([0.05])))
    found = detector(astronaut[:300])
    ids = np.array([0, *detector.categories])
    scale = np.array([512 / size[1], 300 / size[0]] * 2, np.float32)
    expected = to_instances(boxes * scale, scores, ids[labels], masks, (300, 512))
    assert len(found) > 5
    assert list(found.category_ids) == list(expected.category_ids)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
    np.testing.assert_allclose(found.probability(0), expected.probability(0), atol=5e-3)
    assert len(detector.categories) == 80
    assert detector.categories[1], detector.categories[90] == ("person", "toothbrush")
    assert (np.diff(found.scores) <= 0).all()


def test_what_is_below_the_least_score_is_not_computed(network, tmp_path, astronaut):
    export(network.detector, network.branch, tmp_path / "made.onnx")
    everything = load_detector(tmp_path / "made.onnx")(astronaut)
    least = float(everything.scores[2])
    some = load_detector(tmp_path / "made.onnx", score=least)(astronaut)
    kept = everything.above(least)
    assert 3 <= len(some) == len(kept) < len(everything)
    for a, b in zip(some.windows, kept.windows, strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)
