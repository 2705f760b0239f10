"""NanoDet-g as a torch module, with the weights of a public package.

NanoDet (https://github.com/RangiLyu/nanodet, Apache 2.0) predicts, for every cell of three maps, a score of each class
and the distances to the four sides of a box, each as a distribution over eleven bins (Li et al., Generalized Focal
Loss, NeurIPS 2020). The variant "g" has plain 3x3 convolutions in cross-stage partial stages, and 3.8 million weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispmask.errors import ModelError
from crispmask.training.embedded.tfjs import Graph

CLASSES = 80
STRIDES = (8, 16, 32)  # pixels of the canvas for a cell of each map
BINS = 11  # a distance is the expectation over 0..10 cells
MEAN = (123.675, 116.28, 103.53)  # red, green, blue, 0..255
SCALE = (0.017125, 0.017507, 0.017429)
_SLOPE = 0.1


class Maps(NamedTuple):
    """What the network computes of canvases (B, 3, H, W).

    Attributes:
        early: (B, 64, H/4, W/4) and (B, 128, H/8, W/8) from inside of the backbone.
        late: (B, 128, ., .) at strides 8, 16 and 32, from which the boxes are read.
    """

    early: tuple[Tensor, Tensor]
    late: tuple[Tensor, Tensor, Tensor]


class Conv(nn.Conv2d):
    """Convolution, then leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(super().forward(x), _SLOPE)


class Stage(nn.Module):
    """A cross-stage partial stage: twice as many channels as its input."""

    def __init__(self, channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.first = Conv(channels, channels, stride)
        half = channels // 2
        self.blocks = nn.ModuleList(nn.ModuleList([Conv(channels, half), Conv(half, half)]) for _ in range(blocks))
        self.last = Conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = kept = self.first(x)
        for one, two in self.blocks:
            x = one(x)
            x = torch.cat([two(x), x], 1)
        return torch.cat([self.last(x), kept], 1)


class NanoDet(nn.Module):
    """The network without its weights; the modules are in the order in which the original numbers its convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(3, 32, 2)
        self.stages = nn.ModuleList([Stage(32, 1, 1), Stage(64, 2, 2), Stage(128, 2, 2), Stage(256, 3, 2)])
        self.lateral = nn.ModuleList(nn.Conv2d(channels, 128, 1) for channels in (128, 256, 512))
        self.heads = nn.ModuleList(
            nn.Sequential(Conv(128, 128), nn.Conv2d(128, CLASSES + 4 * BINS, 1)) for _ in STRIDES
        )
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    def maps(self, canvas: Tensor) -> Maps:
        """Feature maps of float32 (B, 3, H, W) RGB in 0..255; H and W are multiples of 32."""
        x = F.max_pool2d(self.stem((canvas - self.mean) * self.scale), 3, 2, 1)
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        fine, middle, coarse = (conv(x) for conv, x in zip(self.lateral, stages[1:], strict=True))
        middle = middle + _double(coarse)
        fine = fine + _double(middle)
        # The original scales down bilinearly by two, which is the mean of two by two cells.
        middle = middle + F.avg_pool2d(fine, 2)
        coarse = coarse + F.avg_pool2d(middle, 2)
        return Maps((stages[0], stages[1]), (fine, middle, coarse))

    def predict(self, late: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (B, N, 80) and distributions (B, N, 44) of all cells, map by map, row by row."""
        found = [head(x).flatten(2).transpose(1, 2) for head, x in zip(self.heads, late, strict=True)]
        both = torch.cat(found, 1)
        return torch.sigmoid(both[..., :CLASSES]), both[..., CLASSES:]

    def forward(self, canvas: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B, N, 80) and boxes (B, N, 4), xyxy in pixels of the canvas, of all cells."""
        late = self.maps(canvas).late
        scores, distributions = self.predict(late)
        return scores, boxes_of(distributions, late)


def boxes_of(distributions: Tensor, late: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Boxes (B, N, 4), xyxy in pixels of the canvas, of the distributions of `NanoDet.predict`."""
    centres, strides = [], []
    for stride, cells in zip(STRIDES, late, strict=True):
        ones = torch.ones_like(cells[0, 0])
        grid = torch.stack([ones.cumsum(1), ones.cumsum(0)], -1).reshape(-1, 2) - 0.5
        centres.append(grid * stride)
        strides.append(torch.full_like(grid[:, :1], stride))
    sides = torch.softmax(distributions.unflatten(2, (4, BINS)), 3) @ torch.arange(BINS, dtype=torch.float32)
    sides = sides * torch.cat(strides)
    centre = torch.cat(centres)
    return torch.cat([centre - sides[..., :2], centre + sides[..., 2:]], 2)


def from_graph(graph: Graph) -> NanoDet:
    """NanoDet with the weights of the TensorFlow.js graph; it takes RGB, the graph BGR that is scaled already.

    Raises:
        ModelError: the graph of another network.
    """
    network = NanoDet().eval()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    named = {node["name"]: node["input"] for node in graph.nodes.values() if node["op"] in ("Conv2D", "Add")}
    bias_of = {inputs[0]: inputs[1] for inputs in named.values()}
    with torch.no_grad():
        for k, convolution in enumerate(convolutions):
            name = f"PartitionedCall/convolution{f'_{k}' if k else ''}"
            try:
                weight = graph.constants[named[name][1]].permute(3, 2, 0, 1)
                convolution.weight.copy_(weight)
                convolution.bias.copy_(graph.constants[bias_of[name]])
            except (KeyError, RuntimeError) as error:
                raise ModelError(f"the graph is not NanoDet-g's: {name}: {error}") from None
        stem = convolutions[0].weight
        stem.copy_(stem.flip(1))
    return network


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
