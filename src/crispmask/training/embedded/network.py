"""The embedded detector as one network: NanoDet's boxes, and the mask branch's masks of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import nms

from crispmask.training.embedded.branch import MaskBranch, aligned
from crispmask.training.embedded.nanodet import Maps, NanoDet, boxes_of

CANVAS = 416
"""Pixels to which the longer side of an image is scaled, as in NanoDet's training."""

DIVISOR = 32
LEAST_SCORE = 0.05
DEFAULT_SCORE = 0.4
"""What is found from this score on is used where the user names none.

Of that, 73 % are objects (309 training images of COCO, box IoU 0.5), and these are 31 % of the objects; from 0.3 on
52 % and 42 %, from 0.5 on 87 % and 22 %."""

MOST = 100
_APART = 2048.0  # pixels
SAME_OBJECT = 0.6  # IoU with a box of the same class and a higher score, from which a box goes


class EmbeddedNetwork(nn.Module):
    """From an image, float32 (1, 3, H, W) RGB in 0..255, sides multiples of 32, and a least score, float32 (1,).

    Returns:
        boxes (N, 4) float32 xyxy in pixels of the input; scores (N,) float32; labels (N,) int64 from 1;
        masks (N, 28, 28) float32 probabilities. At most 100, by descending score.
    """

    def __init__(self, detector: NanoDet, branch: MaskBranch) -> None:
        super().__init__()
        self.detector, self.branch = detector, branch

    def forward(self, image: Tensor, least_score: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        maps = self.detector.maps(image)
        boxes, scores, labels = found_boxes(self.detector, maps, least_score)
        return boxes, scores, labels + 1, torch.sigmoid(self.branch(*aligned(maps, boxes)))


def found_boxes(network: NanoDet, maps: Maps, least_score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes of one canvas by descending score.

    Args:
        network: whose heads read the maps.
        maps: of one canvas.
        least_score: float32 (1,), in 0..1.

    Returns:
        At most 100 boxes: float32 (N, 4) xyxy in pixels of the canvas, scores float32 (N,), classes int64 (N,) from 0.
    """
    predicted, distributions = network.predict(maps.late)
    boxes = boxes_of(distributions, maps.late)[0]
    scores, classes = predicted[0].max(1)  # one class for each cell, as the original has it
    kept = torch.nonzero(scores >= least_score)[:, 0]
    boxes, scores, classes = boxes[kept], scores[kept], classes[kept]
    # Boxes of different classes are moved so far apart that none suppresses another.
    kept = nms(boxes + classes[:, None] * _APART, scores, SAME_OBJECT)[:MOST]
    return boxes[kept], scores[kept], classes[kept]
