"""What runs start from, and how ResNet-50 networks are exported."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")
torchvision = pytest.importorskip("torchvision", reason="extra torch is not installed")
pytest.importorskip("efficientnet_lite_pytorch", reason="extra torch is not installed")

from crispmask.detectors import load_detector  # noqa: E402
from crispmask.detectors.networks import coco_network  # noqa: E402
from crispmask.errors import ParamsError  # noqa: E402
from crispmask.training.detector import init  # noqa: E402
from crispmask.training.detector.checkpoint import write_checkpoint  # noqa: E402
from crispmask.training.detector.config import TrainingConfig  # noqa: E402
from crispmask.training.detector.export import export_onnx  # noqa: E402


def test_settings_of_a_start():
    assert TrainingConfig.starting_from("imagenet", steps=7) == TrainingConfig(steps=7)
    assert TrainingConfig.starting_from("maskrcnn_resnet50_fpn").learning_rate == 1e-4
    assert TrainingConfig.starting_from("maskrcnn_resnet50_fpn", learning_rate=1e-3).learning_rate == 1e-3
    with pytest.raises(ParamsError, match="init must be one of imagenet, maskrcnn_resnet50_fpn"):
        TrainingConfig.starting_from("yolo")


def test_the_average_of_a_short_run_forgets_its_start():
    config = TrainingConfig()
    share = np.prod([config.decay(step) for step in range(50)])
    assert share < 1e-6
    assert config.decay(10**5) == config.average


def test_coco_classes_keep_their_rows(monkeypatch):
    torch.manual_seed(0)
    state = coco_network("v1", 91).state_dict()
    monkeypatch.setattr(init, "local_weights", lambda name: "weights.pth")
    monkeypatch.setattr(init, "read_weights", lambda path: (dict(state), None))
    model = init.initial_model(TrainingConfig.starting_from("maskrcnn_resnet50_fpn"), ["hat", "person", "toothbrush"])
    own = model.state_dict()
    for head, width in (
        ("box_predictor.cls_score", 1),
        ("box_predictor.bbox_pred", 4),
        ("mask_predictor.mask_fcn_logits", 1),
    ):
        for label, row in ((0, 0), (2, 1), (3, 90)):
            for part in ("weight", "bias"):
                key = f"roi_heads.{head}.{part}"
                kept = own[key][label * width : (label + 1) * width]
                assert torch.equal(kept, state[key][row * width : (row + 1) * width])
        assert len(own[f"roi_heads.{head}.bias"]) == 4 * width
    assert torch.equal(own["backbone.body.layer4.2.conv3.weight"], state["backbone.body.layer4.2.conv3.weight"])
    frozen = {name.split(".")[2] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"conv1", "layer1"}


def test_export_of_a_resnet(monkeypatch, tmp_path):
    """The second version, whose batch norm the exporter folds, with one block a stage to be quick."""

    def short(**options):
        bottleneck = torchvision.models.resnet.Bottleneck
        return torchvision.models.ResNet(bottleneck, [1, 1, 1, 1], norm_layer=options.get("norm_layer"))

    monkeypatch.setattr(torchvision.models.detection.mask_rcnn, "resnet50", short)
    torch.manual_seed(0)
    model = coco_network("v2", 3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 2)
    weights = {f"module.{key}": value for key, value in model.state_dict().items()}
    config = asdict(TrainingConfig.starting_from("maskrcnn_resnet50_fpn_v2"))
    write_checkpoint(tmp_path / "best.pt", {"average": weights, "step": 1, "names": ["a", "b"], "config": config})
    found = export_onnx(tmp_path / "best.pt", tmp_path / "model.onnx", category_ids=[4, 9])
    assert found["compared"] > 10
    detector = load_detector(tmp_path / "model.onnx")
    assert detector.categories == {4: "a", 9: "b"}
    assert (detector.detector._min_size, detector.detector._max_size) == (800, 1333)
