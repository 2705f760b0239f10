"""Mask head and CRF trained together: the loss, resume, and what is exported."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")
pytest.importorskip("torchvision", reason="extra torch is not installed")
pytest.importorskip("efficientnet_lite_pytorch", reason="extra torch is not installed")

from crispmask.errors import ModelError  # noqa: E402
from crispmask.params import CRFParams  # noqa: E402
from crispmask.training.detector.config import TrainingConfig  # noqa: E402
from crispmask.training.detector.data import read_data  # noqa: E402
from crispmask.training.detector.inference import load_checkpoint  # noqa: E402
from crispmask.training.detector.joint import LOSS, _JointCRF, attach_crf, learned_params  # noqa: E402
from crispmask.training.detector.loop import train  # noqa: E402
from crispmask.training.detector.model import build_model  # noqa: E402

CONFIG = TrainingConfig(steps=3, batch_size=1, warmup=1, channels=16, size=128, crf=True, crf_iterations=2)


def square(image_size: tuple[int, int], box: tuple[int, int, int, int]) -> tuple:
    """A bright square on a dark image (3, H, W), and torchvision's target for it."""
    image = torch.full((3, *image_size), 0.2)
    x0, y0, x1, y1 = box
    image[:, y0:y1, x0:x1] = torch.tensor([0.9, 0.7, 0.5])[:, None, None]
    mask = torch.zeros(1, *image_size, dtype=torch.uint8)
    mask[0, y0:y1, x0:x1] = 1
    return image, {"boxes": torch.tensor([box]).float(), "labels": torch.tensor([1]), "masks": mask}


def test_the_crf_cleans_masks_by_the_colours_that_it_sees():
    """Heads that are often wrong, in proposals that hang over the object and over the border of the image."""
    image, target = square((80, 100), (0, 20, 40, 60))
    boxes = torch.tensor([[-6.0, 14.0, 46.0, 66.0], [0.0, 16.0, 44.0, 60.0]])
    centres = (torch.arange(28) + 0.5) / 28
    x, y = (boxes[:, k, None] + centres * (boxes[:, k + 2] - boxes[:, k])[:, None] for k in (0, 1))
    inside = ((y > 20) & (y < 60))[:, :, None] & ((x > 0) & (x < 40))[:, None]
    noise = torch.randn(2, 28, 28, generator=torch.Generator().manual_seed(0))
    logits = torch.stack([torch.zeros(2, 28, 28), inside * 2.0 - 1 + 1.5 * noise], 1).requires_grad_()
    refined = _JointCRF(CRFParams(iterations=5))([image], [target], [boxes], logits)
    unrefined = _JointCRF(CRFParams(bilateral_weight=0, smoothness_weight=0))([image], [target], [boxes], logits)
    assert refined < 0.5 * unrefined
    refined.backward()
    assert (logits.grad[:, 0] == 0).all()  # of the class that is not there
    assert (logits.grad[:, 1] != 0).any()


def test_the_boxes_of_every_image_meet_its_own_objects():
    """Many boxes over two images: the sample that goes through the CRF is spread over both."""
    (first, a), (second, b) = square((64, 64), (8, 8, 40, 40)), square((64, 64), (20, 20, 60, 60))
    boxes = [a["boxes"].repeat(30, 1), b["boxes"].repeat(10, 1)]
    logits = torch.full((40, 2, 28, 28), 3.0)
    crf = _JointCRF(CRFParams(iterations=2))
    right = crf([first, second], [a, b], boxes, logits)
    wrong = crf([first, second], [b, a], boxes, logits)
    assert right < 0.5 * wrong
    both = 0.75 * crf([first], [a], boxes[:1], logits[:30]) + 0.25 * crf([second], [b], boxes[1:], logits[30:])
    torch.testing.assert_close(right, both, rtol=0.05, atol=0)


def test_images_without_objects():
    image, target = square((64, 64), (8, 8, 40, 40))
    crf = _JointCRF(CRFParams())
    logits = torch.zeros(0, 2, 28, 28, requires_grad=True)
    loss = crf([image], [{k: v[:0] for k, v in target.items()}], [torch.zeros(0, 4)], logits)
    loss.backward()
    assert loss == 0
    assert all(parameter.grad == 0 for parameter in crf.parameters())


def test_the_network_is_what_it_was_but_for_the_loss():
    torch.manual_seed(0)
    plain = build_model(2, channels=16, pretrained=False, min_size=128, max_size=128)
    joint = copy.deepcopy(plain)
    attach_crf(joint, 2)
    joint = copy.deepcopy(joint)  # as the moving average is
    image, target = square((128, 128), (20, 30, 90, 100))
    losses = []
    for model in (plain, joint):
        torch.manual_seed(1)
        losses.append(model.train()([image], [target]))
    extra = losses[1].pop(LOSS)
    assert losses[0] == losses[1]
    extra.backward()
    assert joint.crf.layer.log_theta_alpha.grad != 0
    assert joint.roi_heads.mask_predictor.mask_fcn_logits.weight.grad.abs().sum() > 0
    copy.deepcopy(joint)  # nothing of a step is left in it
    torch.manual_seed(2)
    found = [model.eval()([image])[0] for model in (plain, joint)]
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


@pytest.fixture(scope="module")
def tiny(tiny_coco):
    return read_data([tiny_coco])


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    return train(tiny, tmp_path_factory.mktemp("whole"), CONFIG, workers=0)


def test_a_resumed_run_equals_an_undisturbed_one(tiny, whole, tmp_path):
    class Stopped(Exception):
        pass

    def stop_after_two(step, losses):
        assert losses[LOSS] > 0
        if step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(tiny, tmp_path, CONFIG, workers=0, save_every=1, on_step=stop_after_two)
    parts = train(tiny, tmp_path, CONFIG, workers=0)
    a, b = (torch.load(path, weights_only=True) for path in (whole, parts))
    assert sum(key.startswith("crf.") for key in a["model"]) == 5
    for part in ("model", "average"):
        assert all(torch.equal(a[part][k], b[part][k]) for k in a[part])
    with pytest.raises(ModelError, match="other init, channels, variant or crf"):
        train(tiny, tmp_path, dataclasses.replace(CONFIG, crf=False, steps=4), workers=0)


def test_learned_parameters_are_the_average_s(tiny, whole, tmp_path):
    params = learned_params(whole)
    state = torch.load(whole, weights_only=True)["average"]
    assert params.theta_beta == pytest.approx(np.exp(state["module.crf.layer.log_theta_beta"].item()))
    start = CRFParams()
    moved = ("theta_alpha", "theta_beta", "theta_gamma", "bilateral_weight", "smoothness_weight")
    assert all(getattr(params, name) != getattr(start, name) for name in moved)
    fixed = {name: value for name, value in start.as_dict().items() if name not in moved} | {"iterations": 2}
    assert params.as_dict().items() >= fixed.items()
    load_checkpoint(whole)  # the network without its CRF, as it is exported
    plain = dataclasses.replace(CONFIG, crf=False, steps=1)
    assert learned_params(train(tiny, tmp_path, plain, workers=0)) is None
