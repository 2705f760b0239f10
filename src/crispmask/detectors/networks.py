"""torchvision's Mask R-CNNs with a ResNet-50, built to take given weights, and weights read safely from files."""

from __future__ import annotations

import argparse
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN, MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

from crispmask.errors import ModelError, ParamsError

Version = Literal["v1", "v2"]

# What torch raises for files that are no checkpoints, or are cut short.
UNREADABLE = (OSError, KeyError, RuntimeError, TypeError, ValueError, EOFError, AttributeError, pickle.UnpicklingError)

# The keys under which training scripts store the weights and the names of the classes.
_WEIGHTS = ("model", "state_dict", "model_state_dict")
_CLASSES = ("classes", "class_names", "names", "categories")

_SCORES, _MASKS = "roi_heads.box_predictor.cls_score", "roi_heads.mask_predictor.mask_fcn_logits"


def coco_network(version: Version, num_classes: int, *, norm_eps: float = 0.0) -> MaskRCNN:
    """`maskrcnn_resnet50_fpn` ("v1") or `maskrcnn_resnet50_fpn_v2` ("v2") with random weights.

    Args:
        version: "v1" or "v2".
        num_classes: classes including the background (class 0).
        norm_eps: of v1's frozen batch norm; torchvision's COCO weights, and what was fine-tuned from them, need 0.
    """
    if version == "v2":
        return maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=num_classes)
    # torchvision freezes the batch norm only where it loads the weights itself.
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=5
    )
    for module in backbone.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = norm_eps
    return MaskRCNN(backbone, num_classes=num_classes)


def coco_categories() -> dict[int, str]:
    """COCO's 80 categories as torchvision names them: name by category id, which is also the network's label."""
    names = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return {k: name for k, name in enumerate(names) if k > 0 and name != "N/A"}  # "N/A": the gaps of COCO's ids


def network_of(state: Mapping[str, Tensor], where: str) -> MaskRCNN:
    """The network that a state dict belongs to, with its weights, in evaluation mode.

    Args:
        state: of torchvision's Mask R-CNN with a ResNet-50, any number of classes.
        where: what the weights are called in errors.

    Raises:
        ModelError: weights of another network, or shapes that do not fit.
    """
    scores, masks = state.get(f"{_SCORES}.weight"), state.get(f"{_MASKS}.weight")
    versions: dict[str, Version] = {"roi_heads.box_head.fc6.weight": "v1", "roi_heads.box_head.5.weight": "v2"}
    version = next((version for key, version in versions.items() if key in state), None)
    if version is None or scores is None or masks is None or "backbone.body.conv1.weight" not in state:
        raise ModelError(
            f"{where} does not hold the weights of a torchvision Mask R-CNN with a ResNet-50 "
            "(maskrcnn_resnet50_fpn or maskrcnn_resnet50_fpn_v2)"
        )
    if scores.ndim != 2 or len(scores) < 2 or len(masks) != len(scores):
        raise ModelError(
            f"{where}: the box head has shape {tuple(scores.shape)} and the mask head {tuple(masks.shape)}: "
            "both must have one row for the background and one per class"
        )
    # A network trained from scratch has batch norm with running counts, and torch's usual epsilon.
    counted = any(key.endswith("num_batches_tracked") for key in state)
    model = coco_network(version, len(scores), norm_eps=1e-5 if counted else 0.0)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        first = f"{lines[0].rstrip('.')}" if lines else str(error)
        raise ModelError(f"{where} does not fit a torchvision Mask R-CNN with a ResNet-50: {first}") from None
    return model.eval()


def check_device(name: str) -> torch.device:
    """A device by name.

    Raises:
        ParamsError: one that torch cannot use.
    """
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ParamsError(f"torch cannot use the device {name!r}: {reason}") from None


def locate_in_float32(model: MaskRCNN) -> None:
    """Make a Mask R-CNN compute its boxes' coordinates in float32 under autocast.

    Without that, torchvision computes anchors and box offsets in the precision of the feature maps and of the heads'
    outputs, in which coordinates around 1000 have steps of 4 pixels (bfloat16) or of half a pixel (float16).
    """
    for module in (model.backbone, model.rpn.head, model.roi_heads.box_predictor, model.roi_heads.mask_predictor):
        module.register_forward_hook(lambda module, inputs, outputs: _float32(outputs))


def _float32(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.float()
    if isinstance(outputs, Mapping):
        return OrderedDict((key, part.float()) for key, part in outputs.items())
    return type(outputs)(_float32(part) for part in outputs)


def read_weights(path: Path) -> tuple[dict[str, Tensor], list[str] | None]:
    """Weights, and names of the classes where the file has them, from a ``.pt`` or ``.pth`` file.

    Nothing in the file is executed. It may be a state dict, or a mapping that holds one as training scripts write it;
    prefixes of `DataParallel` are dropped.

    Raises:
        ModelError: a missing or damaged file, or one that holds code or something else than weights.
    """
    try:
        # torchvision's own training script also stores its options.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"there is no model file {path}") from None
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported operand" in str(error):
            raise ModelError(
                f"{path} holds Python objects, which could run code when loaded: save model.state_dict() instead"
            ) from None
        raise ModelError(f"{path} is damaged, or not a file that torch.save wrote") from None
    except UNREADABLE:
        # torch's own message advises how to load unsafe files.
        raise ModelError(f"{path} is damaged, or not a file that torch.save wrote") from None
    if isinstance(content, Mapping) and content.keys() >= {"average", "step", "config"}:
        raise ModelError(f"{path} is a checkpoint of crispmask train: give the model.onnx beside it")
    holder = content if isinstance(content, Mapping) else {}
    inner = next((holder[key] for key in _WEIGHTS if isinstance(holder.get(key), Mapping)), holder)
    state = {str(key).removeprefix("module."): value for key, value in inner.items()}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no state dict: save model.state_dict()")
    return state, next((names for key in _CLASSES if (names := _names(holder.get(key)))), None)


def _names(found: Any) -> list[str] | None:
    """Class names from a list, or from a mapping of numbers to names in their order."""
    if isinstance(found, Mapping) and found and all(isinstance(key, int) for key in found):
        found = [found[key] for key in sorted(found)]
    if isinstance(found, list | tuple) and found and all(isinstance(name, str) for name in found):
        return list(found)
    return None
