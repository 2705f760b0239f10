"""A trained Mask R-CNN as an ONNX file, and a comparison of the file with torch.

The graph ends with the 28x28 mask probabilities; `crispmask.detectors.paste` resamples them into windows.
"""

from __future__ import annotations

import json
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import box_iou
from torchvision.ops.misc import FrozenBatchNorm2d

from crispmask.detectors.canvas import network_input
from crispmask.detectors.onnx import FORMAT
from crispmask.errors import ModelError
from crispmask.files import replacing
from crispmask.image import read_image
from crispmask.runtime import onnx_runtime
from crispmask.training.detector.inference import SIZE_DIVISOR, InferenceNetwork, load_checkpoint

# Tensors with fewer numbers stay float32: biases and the like take little space.
_HALF_FROM = 256

# Largest differences between the file and torch: boxes in pixels, scores and mask probabilities.
_APART = 1.0
_CLOSE = 0.02


def export_onnx(
    checkpoint: Path,
    output: Path,
    *,
    focus: list[str] | None = None,
    category_ids: list[int] | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    half: bool = True,
    images: list[Path] | None = None,
) -> dict[str, float]:
    """Write the averaged model of a checkpoint as ONNX and check it against torch.

    Args:
        checkpoint: of `crispmask.training.detector.loop.train`.
        output: the ONNX file.
        focus: class names to keep; None keeps all.
        category_ids: the data set's id of each kept class; by default 1, 2, ...
        min_size, max_size: sizes in pixels to which the detector scales an image: the shorter side, and the most of
            the longer one; by default those of the network (compact: 512 and 1024, ResNet-50: 800 and 1333).
        half: store the weights as float16; the arithmetic stays float32.
        images: files of images for the comparison, which is always made with noise too.

    Returns:
        What `check_export` returns.

    Raises:
        ModelError: an unusable checkpoint, or a file whose results differ from torch's.
    """
    model, names = load_checkpoint(checkpoint, focus)
    min_size, max_size = min_size or model.transform.min_size[-1], max_size or model.transform.max_size
    fold_batch_norm(model)
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
        inputs = [network_input(read_image(p), min_size, max_size, SIZE_DIVISOR)[0] for p in images or []]
        return check_export(network, partial, [_noise(320, 448), _noise(512, 384), *inputs], half=half)


def check_export(
    network: InferenceNetwork, path: Path, images: list[np.ndarray], *, half: bool = True
) -> dict[str, float]:
    """Compare the detections of an exported file with those of torch.

    Detections are matched by class and box, because two of almost equal scores may come in either order. A detection
    without a match counts as tied, and is no error, if rounding can explain it: a detection that overlaps it, or the
    last of a full list, has a score within 0.02 of its own. Scores within 0.02 of the threshold are left out.

    Args:
        network: the network that was exported.
        path: the ONNX file.
        images: float32 (1, 3, H, W) in 0..255, sides multiples of 32.
        half: whether the weights of the file went through float16.

    Returns:
        The largest differences: ``boxes`` in pixels, ``scores`` and ``masks`` in probability; and the number of pairs
        ``compared`` (there may be none on noise) and of detections ``tied``.

    Raises:
        ModelError: boxes more than 1 px apart, or probabilities more than 0.02.
    """
    session = onnx_runtime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = {"boxes": 0.0, "scores": 0.0, "masks": 0.0, "compared": 0.0, "tied": 0.0}
    reference = rounded_to_half(network) if half else network
    heads = network.model.roi_heads
    for image in images:
        with torch.inference_mode():
            boxes, scores, labels, masks = (t.numpy() for t in reference(torch.from_numpy(image)))
        other_boxes, other_scores, other_labels, other_masks = session.run(None, {"image": image})
        full = len(other_scores) == heads.detections_per_img
        overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(other_boxes)).numpy()
        for i in np.flatnonzero(scores > heads.score_thresh + _CLOSE):
            same = np.flatnonzero(other_labels == labels[i])
            apart = np.abs(other_boxes[same] - boxes[i]).max(axis=1, initial=0)
            if len(same) and apart.min() <= _APART:
                j = same[apart.argmin()]
                worst["compared"] += 1
                worst["boxes"] = max(worst["boxes"], float(apart.min()))
                worst["scores"] = max(worst["scores"], float(abs(other_scores[j] - scores[i])))
                worst["masks"] = max(worst["masks"], float(np.abs(other_masks[j] - masks[i]).max()))
                continue
            rivals = same[overlaps[i, same] > heads.nms_thresh - _CLOSE]
            if (other_scores[rivals] > scores[i] - _CLOSE).any() or (full and scores[i] < other_scores.min() + _CLOSE):
                worst["tied"] += 1
                continue
            raise ModelError(
                f"the exported file finds nothing of class {labels[i]} at {boxes[i].round(1).tolist()}, where torch "
                f"finds it with a score of {scores[i]:.2f}"
            )
    if worst["scores"] > _CLOSE or worst["masks"] > _CLOSE:
        raise ModelError(f"the exported file disagrees with torch: largest differences {worst}")
    return worst


def fold_batch_norm(model: nn.Module) -> None:
    """Fold every batch norm that follows a convolution into the convolution's weights, in place.

    Otherwise the exporter does that for some of them, and the weights that are rounded to float16 are not those of the
    network that the file is compared with.
    """
    for parent in list(model.modules()):
        children = list(parent.named_children())
        for (_, conv), (name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
                statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
                setattr(parent, name, nn.Identity())


def halve_weights(graph: onnx.ModelProto) -> None:
    """Store large float32 initialisers as float16, followed by a Cast, in place: half the size, float32 arithmetic.

    ONNX Runtime folds the casts when it loads the file, so that inference takes the same time.
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
    """A copy with its large weights rounded to float16, so that the comparison leaves out their rounding."""
    import copy

    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.numel() >= _HALF_FROM:
                parameter.copy_(parameter.half().float())
    return twin


def _noise(height: int, width: int) -> np.ndarray:
    """A smooth random image: float32 (1, 3, height, width) in 0..255."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, height // 32, width // 32)).astype(np.float32))
    return nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 255).numpy()
