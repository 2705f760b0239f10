"""The mask network: a crop of the image and a prompt in, log-odds of the object at the crop's resolution out.

Encoder: EfficientNet-Lite0 (Tan and Le, 2019; Lite: no squeeze-and-excitation, ReLU6) with the prompt as fourth input
channel. Decoder: U-Net (Ronneberger et al., 2015) up to half the crop's resolution, where it sees the pixels and the
prompt once more and gives four numbers, one for each of four cells (sub-pixel convolution, Shi et al., 2016): layers at
the full resolution would take a quarter of the time. The answer is added to the prompt's own log-odds. Batch norm is
folded into the convolutions: every layer is a convolution with a bias, and eight crops a step are enough to train it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 32
"""Sides of a crop are multiples of this."""

PRIOR = 0.12
"""The prompt's probability is clipped to [PRIOR, 1 - PRIOR] before its log-odds are added to the answer."""

# Kernel, stride, expansion, channels, repeats.
_BLOCKS = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class Block(nn.Module):
    """Inverted residual: expand, filter each channel, project."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inside * expansion
        self.expand = nn.Conv2d(inside, width, 1) if expansion > 1 else None
        padding = 0 if stride == 2 else kernel // 2
        self.depthwise = nn.Conv2d(width, width, kernel, stride, padding=padding, groups=width)
        self.project = nn.Conv2d(width, outside, 1)
        self.residual = stride == 1 and inside == outside
        self.strided = stride == 2
        whole = kernel - stride  # TensorFlow's 'same': an odd pixel of padding goes to the right and the bottom
        self.padding = (whole // 2, whole - whole // 2) * 2
        # On the CPU, gradients of these depthwise convolutions are several times slower in bfloat16.
        self._whole = self.strided or kernel == 5

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self._filter(y)))
        return x + y if self.residual else y

    def _filter(self, y: Tensor) -> Tensor:
        if self.strided:
            y = F.pad(y, self.padding)
        if self._whole and y.is_cpu and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return self.depthwise(y.float())
        return self.depthwise(y)


class Up(nn.Module):
    """Twice the resolution: the coarser map, and the encoder's map of this resolution."""

    def __init__(self, below: int, beside: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(below, width, 1)
        self.lateral = nn.Conv2d(beside, width, 1)
        self.mix = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
        )

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        return self.mix(_joined(self.reduce(x), self.lateral(beside)))


def _joined(coarser: Tensor, beside: Tensor) -> Tensor:
    """Two maps as one: the first at twice its resolution, and the second, which has that."""
    return F.interpolate(F.relu(coarser), scale_factor=2, mode="bilinear", align_corners=False) + F.relu(beside)


class MaskNetwork(nn.Module):
    """RGB (B, 3, S, S) and a prompt (B, 1, S, S), float32 in [0, 1], to log-odds (B, 1, S, S).

    S is any multiple of `STRIDE`. While training it also returns log-odds at a quarter of S.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 32, 3, stride=2, padding=1)
        blocks, inside = [], 32
        for kernel, stride, expansion, outside, repeats in _BLOCKS:
            for i in range(repeats):
                blocks.append(Block(inside, outside, kernel, stride if i == 0 else 1, expansion))
                inside = outside
        self.blocks = nn.ModuleList(blocks)
        self.up16, self.up8 = Up(320, 112, 96), Up(96, 40, 64)
        self.up4 = Up(64, 24, 48)
        # The last resolution is where the time goes: it is narrow.
        self.reduce, self.lateral = nn.Conv2d(48, 24, 1), nn.Conv2d(16, 24, 1)
        self.pixels = nn.Conv2d(4, 16, 4, stride=2, padding=1)
        self.mix = nn.Conv2d(40, 16, 3, padding=1)
        self.head = nn.Conv2d(16, 4, 3, padding=1)
        self.coarse = nn.Conv2d(48, 1, 1)
        # At first the answer is the prompt, and the coarse answer leaves what is learned already alone.
        for layer in (self.head, self.coarse):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, rgb: Tensor, prompt: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        pixels = torch.cat([(rgb - 127 / 255) / (128 / 255), prompt * 2 - 1], 1)
        x = F.relu6(self.stem(pixels))
        maps = []
        for block in self.blocks:
            if block.strided:
                maps.append(x)
            x = block(x)
        half, quarter, eighth, sixteenth = maps
        y = self.up4(self.up8(self.up16(x, sixteenth), eighth), quarter)
        fine = torch.cat([_joined(self.reduce(y), self.lateral(half)), F.relu(self.pixels(pixels))], 1)
        answer = F.pixel_shuffle(self.head(F.relu(self.mix(fine))), 2)
        odds = answer + torch.logit(prompt.clamp(PRIOR, 1 - PRIOR))
        return (odds, self.coarse(y)) if self.training else odds
