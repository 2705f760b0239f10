"""A trained Mask R-CNN as an ONNX file, and the proof that the file computes the same.

The graph ends at the 28x28 mask probabilities: pasting them to full size is `crispmask.detectors.paste`'s work.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList

from crispmask.detectors.onnx import FORMAT, network_input
from crispmask.detectors.runtime import onnx_runtime
from crispmask.errors import ModelError
from crispmask.files import replacing
from crispmask.image import read_image
from crispmask.training.backbone import IMAGE_MEAN, IMAGE_STD
from crispmask.training.checkpoint import read_checkpoint
from crispmask.training.model import build_model

SIZE_DIVISOR = 32  # pixels: the stride of the deepest map

# Weights smaller than this stay float32: biases and the like weigh nothing.
_HALF_FROM = 256


class _FocusPredictor(nn.Module):
    """Box predictor of a subset of the classes: the others count as background, their logits summed in log space."""

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
    """What is exported: image (1, 3, H, W) float32 RGB in 0..255, sides multiples of 32, to four arrays.

    Returns:
        boxes (N, 4) float32 xyxy in pixels of the input; scores (N,) float32; labels (N,) int64 from 1;
        masks (N, 28, 28) float32 probabilities.
    """

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(1, 3, 1, 1) * 255)

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
        names, config = state["names"], state["config"]
        model = build_model(len(names) + 1, variant=config["variant"], channels=config["channels"], pretrained=False)
        weights = {k.removeprefix("module."): v for k, v in state["average"].items() if k.startswith("module.")}
        model.load_state_dict(weights)
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


def export_onnx(
    checkpoint: Path,
    output: Path,
    *,
    focus: list[str] | None = None,
    category_ids: list[int] | None = None,
    min_size: int = 512,
    max_size: int = 1024,
    half: bool = True,
    photos: list[Path] | None = None,
) -> dict[str, float]:
    """Write the averaged model of a checkpoint as ONNX and check it against torch.

    Args:
        checkpoint: of `crispmask.training.loop.train`.
        output: the ONNX file.
        focus: class names to keep; None keeps all.
        category_ids: the data set's id of each kept class; by default 1, 2, ...
        min_size, max_size: to which the detector scales a photo: shorter side, and bound on the longer, in pixels.
        half: store the weights as float16. They are computed with as float32.
        photos: for the check, besides noise.

    Returns:
        What `check_export` found.

    Raises:
        ModelError: an unusable checkpoint, or a file that computes something else than torch.
    """
    model, names = load_checkpoint(checkpoint, focus)
    network = InferenceNetwork(model).eval()
    example = torch.from_numpy(_noise(320, 448))
    with replacing(output) as partial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's remarks on torchvision's constants
            torch.onnx.export(
                network,
                (example,),
                partial,
                dynamo=False,
                opset_version=17,
                input_names=["image"],
                output_names=["boxes", "scores", "labels", "masks"],
                dynamic_axes={
                    "image": {2: "height", 3: "width"},
                    "boxes": {0: "n"},
                    "scores": {0: "n"},
                    "labels": {0: "n"},
                    "masks": {0: "n"},
                },
            )
        graph = onnx.load(str(partial))
        if half:
            halve_weights(graph)
        facts = {
            "format": FORMAT,
            "names": names,
            "category_ids": category_ids or list(range(1, len(names) + 1)),
            "min_size": min_size,
            "max_size": max_size,
            "size_divisor": SIZE_DIVISOR,
        }
        for key, value in facts.items():
            graph.metadata_props.add(key=key, value=json.dumps(value))
        onnx.save(graph, str(partial))
        inputs = [network_input(read_image(p), min_size, max_size, SIZE_DIVISOR)[0] for p in photos or []]
        return check_export(network, partial, [_noise(320, 448), _noise(512, 384), *inputs], half=half)


def check_export(
    network: InferenceNetwork, path: Path, images: list[np.ndarray], *, half: bool = True
) -> dict[str, float]:
    """Largest differences between the file and torch: ``boxes`` in pixels, ``scores`` and ``masks`` in probability.

    Also the number of detections ``compared``, of which there may be none on noise. Detections are paired by their
    boxes, since two of almost equal scores may come in either order; those with a score within 0.02 of the threshold
    are left out, since they may be missing on either side.

    Raises:
        ModelError: boxes more than 1 px apart, or probabilities more than 0.02.
    """
    session = onnx_runtime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = {"boxes": 0.0, "scores": 0.0, "masks": 0.0, "compared": 0.0}
    reference = rounded_to_half(network) if half else network
    for image in images:
        with torch.inference_mode():
            boxes, scores, _, masks = (t.numpy() for t in reference(torch.from_numpy(image)))
        other_boxes, other_scores, _, other_masks = session.run(None, {"image": image})
        sure = np.flatnonzero(scores > network.model.roi_heads.score_thresh + 0.02)
        if len(sure) and not len(other_boxes):
            raise ModelError(f"the exported file finds nothing where torch finds {len(sure)} objects")
        for i in sure:
            worst["compared"] += 1
            j = int(np.abs(other_boxes - boxes[i]).max(axis=1).argmin())
            worst["boxes"] = max(worst["boxes"], float(np.abs(other_boxes[j] - boxes[i]).max()))
            worst["scores"] = max(worst["scores"], float(abs(other_scores[j] - scores[i])))
            worst["masks"] = max(worst["masks"], float(np.abs(other_masks[j] - masks[i]).max()))
    if worst["boxes"] > 1 or worst["scores"] > 0.02 or worst["masks"] > 0.02:
        raise ModelError(f"the exported file disagrees with torch: largest differences {worst}")
    return worst


def halve_weights(graph: onnx.ModelProto) -> None:
    """Store large float32 initialisers as float16 behind a Cast, in place: half the size, float32 arithmetic.

    ONNX Runtime folds the casts when it loads the file, so that inference costs the same as before.
    """
    casts = []
    for tensor in list(graph.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _HALF_FROM:
            continue
        name = tensor.name
        small = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.half")
        graph.graph.initializer.remove(tensor)
        graph.graph.initializer.append(small)
        casts.append(helper.make_node("Cast", [small.name], [name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.graph.node.insert(0, node)


def rounded_to_half(network: InferenceNetwork) -> InferenceNetwork:
    """A copy whose large weights went through float16, for comparing graphs rather than roundings."""
    import copy

    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.numel() >= _HALF_FROM:
                parameter.copy_(parameter.half().float())
    return twin


def _noise(height: int, width: int) -> np.ndarray:
    """A smooth random picture (1, 3, height, width) float32 in 0..255."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, height // 32, width // 32)).astype(np.float32))
    return nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 255).numpy()
