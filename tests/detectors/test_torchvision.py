"""torchvision's Mask R-CNNs: against torchvision itself, in batches, and files that cannot be trusted."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from crispmask.cli import app

torch = pytest.importorskip("torch", reason="extra torch is not installed")
pytest.importorskip("torchvision", reason="extra torch is not installed")

from crispmask.detectors import load_detector, networks  # noqa: E402
from crispmask.detectors.networks import coco_network, locate_in_float32, network_of, read_weights  # noqa: E402
from crispmask.detectors.torchvision import detections  # noqa: E402
from crispmask.detectors.weights import NAMES  # noqa: E402
from crispmask.errors import ModelError, ParamsError  # noqa: E402
from crispmask.image import read_image  # noqa: E402
from crispmask.samples import sample_images  # noqa: E402

# How torchvision's file of 2019 calls layers that have been renamed since.
OLD_NAMES = {"rpn.head.conv.0.0.": "rpn.head.conv.", "roi_heads.mask_head.0.0.": "roi_heads.mask_head.mask_fcn1."}


def confident(model):
    """A random network that sees objects everywhere, on small canvases."""
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias[1:] += 1.5
    model.transform.min_size, model.transform.max_size = (96,), 160
    return model.eval()


@pytest.fixture(scope="module")
def coco_state():
    """Random weights of the first version's shapes, 91 classes; float16, so that the file is small."""
    torch.manual_seed(0)
    model = confident(coco_network("v1", 91))
    with torch.no_grad():  # some hundred objects of any class would bury the ones that count
        model.roi_heads.box_predictor.cls_score.bias[3:] -= 9
        model.roi_heads.box_predictor.cls_score.bias[1] += 4
    return {key: value.half() for key, value in model.state_dict().items()}


@pytest.fixture
def small_canvases(monkeypatch):
    """Networks of this module are built to see a photo with 96 rows: what is tested does not depend on the size."""
    build = networks.coco_network
    monkeypatch.setattr(networks, "coco_network", lambda *a, **k: small(build(*a, **k)))


def small(model):
    model.transform.min_size, model.transform.max_size = (96,), 160
    return model


@pytest.fixture(scope="module")
def photo():
    return read_image(sample_images()[0])


@pytest.mark.slow
def test_coco_weights_from_a_server(coco_state, torch_home, publish, server, tmp_path, small_canvases, photo):
    old = {}
    for key, value in coco_state.items():
        for new_name, old_name in OLD_NAMES.items():
            key = key.replace(new_name, old_name) if key.startswith(new_name) else key
        old[key] = value
    torch.save(old, tmp_path / "random.pth")
    published = publish(tmp_path / "random.pth")
    Path(tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(sample_images()[0].read_bytes())

    options = ["--detector", NAMES[0], "--no-refine", "--score", "0.5", "-o", tmp_path / "out", "--batch-size", "2"]
    result = CliRunner().invoke(app, [str(word) for word in ("segment", tmp_path / "photos", *options)])
    assert result.exit_code == 0, result.output
    assert server.asked == [f"/{published}"]

    detector = load_detector(NAMES[0])  # from the cache
    assert len(server.asked) == 1
    assert len(detector.categories) == 80
    found = detector(photo)
    assert len(found) > 5
    assert set(found.category_ids.tolist()) <= set(detector.categories)
    assert (np.diff(found.scores) <= 0).all()
    same = network_of(coco_state, "memory")
    with torch.inference_mode():
        expected = same([torch.tensor(photo).permute(2, 0, 1) / 255])[0]
    known = np.isin(expected["labels"].numpy(), list(detector.categories))
    np.testing.assert_array_equal(found.boxes, expected["boxes"].numpy()[known])
    np.testing.assert_array_equal(found.scores, expected["scores"].numpy()[known])
    for k in (0, 1):
        # torchvision rounds the box to whole pixels before it pastes, which shows along the edge of the box.
        theirs = expected["masks"].numpy()[known][k, 0]
        assert np.abs(found.probability(k) - theirs).mean() < 0.1 * theirs.mean()
    assert all(
        np.array_equal(a.probabilities, b.probabilities)
        for a, b in zip(detector.batch([photo[:99], photo])[1].windows, found.windows, strict=True)
    )


def test_photos_of_a_pass_do_not_change_each_other(photo, small_canvases):
    torch.manual_seed(1)
    model = confident(networks.coco_network("v2", 3))
    images = [photo, photo[:, ::-1], photo[:300]]  # two of one canvas, one of another
    together = detections(model, images, torch.device("cpu"))
    for image, found in zip(images, together, strict=True):
        alone = detections(model, [image], torch.device("cpu"))[0]
        assert len(alone) == len(found)
        np.testing.assert_allclose(alone.scores, found.scores, atol=1e-4)
        for k in np.flatnonzero(found.scores > 0.3)[:5]:  # almost equal scores may come in either order
            nearest = np.abs(alone.boxes - found.boxes[k]).max(axis=1).argmin()
            np.testing.assert_allclose(alone.boxes[nearest], found.boxes[k], atol=0.1)


def test_a_checkpoint_of_a_training_script(coco_state, tmp_path, photo, small_canvases):
    state = {f"module.{key}": value for key, value in coco_state.items()}
    heads = ("cls_score", "bbox_pred", "mask_fcn_logits")
    for key in [key for key in state if any(head in key for head in heads)]:
        state[key] = state[key][: 3 * (4 if "bbox_pred" in key else 1)]
    content = {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.02), "classes": ["cat", "dog"]}
    torch.save(content, tmp_path / "tuned.pt")
    detector = load_detector(tmp_path / "tuned.pt")
    assert detector.categories == {1: "cat", 2: "dog"}
    assert set(detector(photo).category_ids.tolist()) == {1, 2}

    for names, expected in (
        (["background", "cat", "dog"], {1: "cat", 2: "dog"}),
        ({7: "cat", 9: "dog"}, {1: "cat", 2: "dog"}),
        (["cat"], {1: "1", 2: "2"}),
        (None, {1: "1", 2: "2"}),
    ):
        from crispmask.detectors.torchvision import _categories

        torch.save({"state_dict": {"a": torch.zeros(1)}, "names": names}, tmp_path / "names.pt")
        found = read_weights(tmp_path / "names.pt")[1]
        assert _categories({"roi_heads.box_predictor.cls_score.weight": torch.zeros(3, 4)}, found, "0") == expected


class Bomb:
    """What a hostile file does when it is unpickled carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"model": Bomb(tmp_path / "exploded")}, tmp_path / "bomb.pt")
    with pytest.raises(ModelError, match=r"bomb\.pt holds Python objects, which could run code when loaded") as caught:
        load_detector(tmp_path / "bomb.pt")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()
    torch.load(tmp_path / "bomb.pt", weights_only=False)
    assert (tmp_path / "exploded").exists()  # the bomb is live


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(ModelError, match="there is no model file"):
        load_detector(tmp_path / "gone.pth")
    torch.save({"model": {"conv.weight": torch.zeros(1)}}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        (tmp_path / "broken.pt").write_bytes(content)
        with pytest.raises(ModelError, match=r"broken\.pt is damaged, or not a file that torch\.save wrote"):
            load_detector(tmp_path / "broken.pt")
    with pytest.raises(ModelError, match="does not hold the weights of a torchvision Mask R-CNN"):
        load_detector(tmp_path / "whole.pt")
    for content in ({}, [1, 2], {"model": 3}, torch.zeros(3)):
        torch.save(content, tmp_path / "odd.pt")
        with pytest.raises(ModelError, match="holds no state dict"):
            load_detector(tmp_path / "odd.pt")
    torch.save({"average": {}, "step": 1, "config": {}, "names": []}, tmp_path / "ours.pt")
    with pytest.raises(ModelError, match=r"give the model\.onnx beside it"):
        load_detector(tmp_path / "ours.pt")


def test_weights_of_other_shapes(coco_state):
    wrong = {**coco_state, "roi_heads.box_head.fc7.weight": torch.zeros(8, 8)}
    with pytest.raises(
        ModelError, match=r"a file does not fit .* size mismatch for roi_heads\.box_head\.fc7"
    ) as caught:
        network_of(wrong, "a file")
    assert "\n" not in str(caught.value)
    fewer = {**coco_state, "roi_heads.mask_predictor.mask_fcn_logits.weight": torch.zeros(2, 256, 1, 1)}
    with pytest.raises(ModelError, match="the box head has shape"):
        network_of(fewer, "a file")


def test_devices(tmp_path):
    with pytest.raises(ParamsError, match="half precision needs a GPU"):
        load_detector(NAMES[0], half=True)
    with pytest.raises(ParamsError, match="torch cannot use the device 'abacus'"):
        load_detector(NAMES[0], device="abacus")
    with pytest.raises(ParamsError, match="half precision is for torchvision's"):
        load_detector("embedded", half=True)
    with pytest.raises(ParamsError, match="ONNX files run on cpu or cuda, not on 'mps'"):
        load_detector("embedded", device="mps")


def test_boxes_are_placed_in_float32():
    from crispmask.training.detector.model import build_model

    pytest.importorskip("efficientnet_lite_pytorch", reason="extra torch is not installed")
    model = build_model(2, variant="lite0", channels=16, pretrained=False).eval()

    def proposals():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            images, _ = model.transform([torch.zeros(3, 64, 64)])
            return model.rpn(images, model.backbone(images.tensors))[0][0]

    assert proposals().dtype == torch.bfloat16  # with steps of 2 pixels around 512
    locate_in_float32(model)
    assert proposals().dtype == torch.float32
