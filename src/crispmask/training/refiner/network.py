"""The unary network in torch: a photo's window and a mask in, corrected log-odds of the mask out.

Its eyes are the first stages of EfficientNet-Lite2 with ImageNet's weights, which stay as they are: a few thousand
objects teach where a mask is wrong, not what the world looks like. What is learnt is a small U-Net that compares mask
and photo.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispmask.refinement.network import CONFIDENCE
from crispmask.training.detector.backbone import EfficientNetLiteFPN

_BLOCKS = 4  # of the stage of stride 16: those of 88 channels
_EYES = (16, 24, 48, 88)  # channels at strides 2, 4, 8, 16


class UnaryNetwork(nn.Module):
    """Windows (B, 3, S, S) float32 RGB in 0..255, probabilities (B, 1, S, S) in [0, 1], sizes (B,) to (B, 1, S, S).

    S is a multiple of 16. Sizes are the square roots of the windows' areas in the photo's pixels. The result is what to
    add to the log-odds of the probabilities, clipped to the confidence of `crispmask.refinement.network`.

    Args:
        widths: channels of the U-Net at strides 2, 4, 8 and 16.
        pretrained: start from ImageNet's weights; False leaves random ones (for loading a checkpoint).
    """

    def __init__(self, widths: tuple[int, int, int, int] = (20, 32, 48, 64), *, pretrained: bool = True) -> None:
        super().__init__()
        eyes = EfficientNetLiteFPN("lite2", 8, pretrained=pretrained, drop_rate=0.0)
        self.stem = eyes.stem
        self.stages = nn.ModuleList([*eyes.stages[:3], eyes.stages[3][:_BLOCKS]])
        for module in (self.stem, self.stages):
            module.requires_grad_(False).eval()
        a, b, c, d = widths
        seen = 4 * 5 + 1  # photo and mask at full resolution, folded into the channels of stride 2, and the size
        self.in2 = _conv(_EYES[0] + seen, a)
        self.down4, self.in4 = _conv(a, b, 2), _conv(b + _EYES[1], b)
        self.down8, self.in8 = _conv(b, c, 2), _conv(c + _EYES[2], c)
        self.down16 = _conv(c, d, 2)
        self.in16 = nn.Sequential(_conv(d + _EYES[3], d), _conv(d, d))
        self.up8, self.up4, self.up2 = _conv(d + c, c), _conv(c + b, b), _conv(b + a, a)
        self.out = nn.Conv2d(a, 4, 3, 1, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def train(self, mode: bool = True) -> UnaryNetwork:
        super().train(mode)
        self.stem.eval()
        self.stages.eval()
        return self

    def forward(self, image: Tensor, probability: Tensor, size: Tensor) -> Tensor:
        x = (image - 127) / 128
        p = probability.clamp(1 - CONFIDENCE, CONFIDENCE)
        with torch.no_grad():
            y, eyes = self.stem(x), []
            for stage in self.stages:
                y = stage(y)
                eyes.append(y)
        fine = F.pixel_unshuffle(torch.cat([x, probability * 2 - 1, torch.log(p / (1 - p)) / 2], 1), 2)
        scale = (torch.log2(size / 128) / 2).view(-1, 1, 1, 1).expand(-1, 1, *fine.shape[2:])
        a = self.in2(torch.cat([eyes[0], fine, scale], 1))
        b = self.in4(torch.cat([self.down4(a), eyes[1]], 1))
        c = self.in8(torch.cat([self.down8(b), eyes[2]], 1))
        d = self.in16(torch.cat([self.down16(c), eyes[3]], 1))
        c = self.up8(torch.cat([_double(d), c], 1))
        b = self.up4(torch.cat([_double(c), b], 1))
        a = self.up2(torch.cat([_double(b), a], 1))
        return F.pixel_shuffle(self.out(a), 2)

    def learnt(self) -> dict[str, Tensor]:
        """The weights that training changes."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith(("stem.", "stages."))}


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU(inplace=True))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
