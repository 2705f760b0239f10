"""The initial weights of a training run: ImageNet's, the embedded detector's, or torchvision's for COCO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN

from crispmask.detectors.files import embedded_model_path
from crispmask.detectors.networks import Version, coco_categories, coco_network, network_of, read_weights
from crispmask.detectors.weights import local_weights
from crispmask.errors import ModelError
from crispmask.structured import parse_json
from crispmask.training.detector.config import TrainingConfig
from crispmask.training.detector.model import build_model

_VERSIONS: dict[str, Version] = {"maskrcnn_resnet50_fpn": "v1", "maskrcnn_resnet50_fpn_v2": "v2"}

# The last layers, and how many rows they have per class.
_HEADS = {"box_predictor.cls_score": 1, "box_predictor.bbox_pred": 4, "mask_predictor.mask_fcn_logits": 1}

# The first layers find edges and colours, which are the same in every data set: they stay frozen, as in torchvision.
_FROZEN = ("backbone.body.conv1.", "backbone.body.bn1.", "backbone.body.layer1.")


def empty_model(config: Mapping[str, object], num_classes: int) -> MaskRCNN:
    """A network with random weights, to load a checkpoint into.

    Args:
        config: a `TrainingConfig` as a mapping, also of an older checkpoint.
        num_classes: classes including the background (class 0).
    """
    version = _VERSIONS.get(str(config.get("init")))
    if version:
        return coco_network(version, num_classes)
    return build_model(num_classes, variant=config["variant"], channels=config["channels"], pretrained=False)  # type: ignore[arg-type]


def initial_model(config: TrainingConfig, names: Sequence[str]) -> MaskRCNN:
    """The network at step 0, its first layers frozen.

    If `config.init` names a detector, all its weights are taken, except for the last layers: these are new, but the
    rows of the background and of classes with a name that the detector knows are copied.

    Args:
        config: the run.
        names: the classes; label k is ``names[k - 1]``.

    Raises:
        ModelError: weights that cannot be fetched or read.
    """
    total = len(names) + 1
    if config.init == "imagenet":
        return build_model(total, variant=config.variant, channels=config.channels)
    if config.init == "embedded":
        model = build_model(total, variant=config.variant, channels=config.channels, pretrained=False)
        state, rows = _embedded()
    else:
        path = local_weights(config.init)
        # Read through a whole network, which knows the names that layers had in older files.
        state = network_of(read_weights(path)[0], str(path)).state_dict()
        rows = {name: dict.fromkeys(_HEADS, k) for k, name in coco_categories().items()}
        model = coco_network(_VERSIONS[config.init], total)
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(not key.startswith(_FROZEN))
    own = model.state_dict()
    for head, width in _HEADS.items():
        for part in ("weight", "bias"):
            key = f"roi_heads.{head}.{part}"
            known, fresh = state[key], own[key].clone()
            for label, name in enumerate([None, *names]):
                row = 0 if name is None else rows[name][head] if name in rows else None
                if row is not None:
                    fresh[label * width : (label + 1) * width] = known[row * width : (row + 1) * width]
            state[key] = fresh
    model.load_state_dict(state)
    return model


def _embedded() -> tuple[dict[str, Tensor], dict[str, dict[str, int]]]:
    """The embedded detector's weights under the names of its network, and each class's row in each last layer.

    The export keeps the names of all weights, and stores large ones as float16. Batch norm was folded into the
    convolutions before training. The box predictor has all classes of the training, from which the graph selects those
    that it reports; the mask predictor has only these.
    """

    import onnx
    from onnx import numpy_helper

    content = onnx.load(str(embedded_model_path()))
    graph = content.graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state = {
        name.removesuffix(".half").removeprefix("model.").replace("box_predictor.predictor.", "box_predictor."): array
        for name, array in arrays.items()
        if name.startswith("model.")
    }
    constants = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    gathered = [
        numpy_helper.to_array(constants[node.input[1]]) if node.input[1] in constants else arrays[node.input[1]]
        for node in graph.node
        if node.op_type == "Gather" and "/box_predictor/" in node.name and "cls_score" in node.input[0]
    ]
    reported = [labels.tolist() for labels in gathered if 0 not in labels]
    names = parse_json({entry.key: entry.value for entry in content.metadata_props}["names"], "names")
    if len(reported) != 1 or len(reported[0]) != len(names):
        raise ModelError("the embedded model is not the one that this version of crispmask knows: reinstall crispmask")
    rows = {
        name: {head: k if head.startswith("mask") else label for head in _HEADS}
        for k, (name, label) in enumerate(zip(names, reported[0], strict=True), start=1)
    }
    return {name: torch.from_numpy(np.array(array, np.float32)) for name, array in state.items()}, rows
