"""The initial weights of a training run: ImageNet's, or torchvision's for COCO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torchvision.models.detection import MaskRCNN

from crispmask.detectors.networks import Version, coco_categories, coco_network, network_of, read_weights
from crispmask.detectors.weights import local_weights
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
    path = local_weights(config.init)
    # Read through a whole network, which knows the names that layers had in older files.
    state = network_of(read_weights(path)[0], str(path)).state_dict()
    rows: dict[str | None, int] = {None: 0} | {name: k for k, name in coco_categories().items()}
    model = coco_network(_VERSIONS[config.init], total)
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(not key.startswith(_FROZEN))
    own = model.state_dict()
    for head, width in _HEADS.items():
        for part in ("weight", "bias"):
            key = f"roi_heads.{head}.{part}"
            known, fresh = state[key], own[key].clone()
            for label, name in enumerate([None, *names]):
                row = rows.get(name)
                if row is not None:
                    fresh[label * width : (label + 1) * width] = known[row * width : (row + 1) * width]
            state[key] = fresh
    model.load_state_dict(state)
    return model
