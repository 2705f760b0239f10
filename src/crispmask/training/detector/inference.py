"""The trained network for inference: one canvas in, arrays out, reduced to the classes that are wanted."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList

from crispmask.errors import ModelError
from crispmask.training.detector.checkpoint import read_checkpoint
from crispmask.training.detector.init import empty_model
from crispmask.training.detector.joint import PREFIX

SIZE_DIVISOR = 32  # pixels: the stride of the deepest map


class _FocusPredictor(nn.Module):
    """Box predictor of a subset of the classes; the probabilities of all others are added to the background's."""

    def __init__(self, predictor: nn.Module, labels: list[int]) -> None:
        super().__init__()
        self.predictor = predictor
        total = predictor.cls_score.out_features
        self.labels = labels
        self.others = [k for k in range(total) if k not in labels]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, deltas = self.predictor(x)
        background = torch.logsumexp(scores[:, self.others], dim=1, keepdim=True)
        columns = [4 * k + j for k in [0, *self.labels] for j in range(4)]
        return torch.cat([background, scores[:, self.labels]], dim=1), deltas[:, columns]


class InferenceNetwork(nn.Module):
    """The network that is exported: from an image, float32 (1, 3, H, W) RGB in 0..255, sides multiples of 32.

    Returns:
        boxes (N, 4) float32 xyxy in pixels of the input; scores (N,) float32; labels (N,) int64 from 1;
        masks (N, 28, 28) float32 probabilities.
    """

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(model.transform.image_mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(model.transform.image_std).view(1, 3, 1, 1) * 255)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = (image - self.mean) / self.std
        features = self.model.backbone(x)
        images = ImageList(x, [(x.shape[2], x.shape[3])])
        proposals, _ = self.model.rpn(images, features)
        detections, _ = self.model.roi_heads(features, proposals, images.image_sizes)
        found = detections[0]
        return found["boxes"], found["scores"], found["labels"], found["masks"].squeeze(1)


def load_checkpoint(path: Path, focus: list[str] | None = None) -> tuple[MaskRCNN, list[str]]:
    """The averaged model of a checkpoint, in evaluation mode, reduced to the classes of `focus` (None: all).

    Raises:
        ModelError: a file that is no checkpoint of `crispmask train`, or a class that it does not know.
    """
    state = read_checkpoint(path)
    try:
        names = state["names"]
        model = empty_model(state["config"], len(names) + 1)
        weights = {k.removeprefix("module."): v for k, v in state["average"].items() if k.startswith("module.")}
        model.load_state_dict({k: v for k, v in weights.items() if not k.startswith(PREFIX)})
    except (KeyError, RuntimeError, TypeError) as error:
        raise ModelError(f"{path} is not a checkpoint of crispmask train: {error}") from None
    if focus:
        unknown = [name for name in focus if name not in names]
        if unknown:
            raise ModelError(f"{path} was not trained on {', '.join(unknown)}; it knows {', '.join(names)}")
        keep_classes(model, [names.index(name) + 1 for name in focus])
        names = list(focus)
    return model.eval(), names


def keep_classes(model: MaskRCNN, labels: list[int]) -> None:
    """Reduce a model to some of its classes, in place; they become labels 1, 2, ... in this order."""
    model.roi_heads.box_predictor = _FocusPredictor(model.roi_heads.box_predictor, labels)
    old = model.roi_heads.mask_predictor.mask_fcn_logits
    new = nn.Conv2d(old.in_channels, len(labels) + 1, 1)
    rows = [0, *labels]
    with torch.no_grad():
        new.weight.copy_(old.weight[rows])
        new.bias.copy_(old.bias[rows])
    model.roi_heads.mask_predictor.mask_fcn_logits = new
