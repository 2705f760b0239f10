"""Mask head and CRF trained together: the mask head's logits go through a `CRFLayer`, whose output has a loss.

S. Zheng et al., "Conditional Random Fields as Recurrent Neural Networks", ICCV 2015, for the instances of a Mask R-CNN.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import MaskRCNN
from torchvision.ops import box_iou, roi_align

from crispmask.crf.layer import CRFLayer
from crispmask.params import CRFParams
from crispmask.refinement.colour import rgb_to_lab
from crispmask.training.detector.checkpoint import read_checkpoint

LOSS = "loss_mask_crf"
PREFIX = "crf."  # of the CRF's entries in the network's state

# Most proposals whose masks go through the CRF in a step: more take time and show the same objects again.
_MOST = 16
# Cells around the 28 of a box in which the CRF may grow the mask; 1/7 of a side, about the context that `refine` takes.
_MARGIN = 4


def attach_crf(model: MaskRCNN, iterations: int) -> None:
    """Add a CRF to a Mask R-CNN, as its submodule ``crf``, and one more loss in training, ``loss_mask_crf``.

    The other losses stay, among them that of the masks before the CRF. What the network detects does not change.

    Args:
        model: any torchvision `MaskRCNN`.
        iterations: mean-field updates.
    """
    model.crf = _JointCRF(replace(CRFParams(), iterations=iterations))
    # Bound methods as hooks: those of a deep copy of the network call the copy's own CRF.
    model.roi_heads.mask_roi_pool.register_forward_pre_hook(model.crf.note_boxes)
    model.roi_heads.mask_predictor.register_forward_hook(model.crf.note_logits)
    model.register_forward_hook(model.crf.add_loss)


def learned_params(checkpoint: Path) -> CRFParams | None:
    """The parameters of the CRF in a checkpoint's averaged weights; None if the run had no CRF.

    Raises:
        ModelError: a file that is no checkpoint of `crispmask train`.
    """
    state = read_checkpoint(checkpoint)
    start = f"module.{PREFIX}"
    weights = {key.removeprefix(start): value for key, value in state["average"].items() if key.startswith(start)}
    if not weights:
        return None
    joint = _JointCRF(replace(CRFParams(), iterations=state["config"]["crf_iterations"]))
    joint.load_state_dict(weights)
    return joint.layer.to_params(joint.start)


class _JointCRF(nn.Module):
    """The CRF on the boxes of the objects.

    Each box is a grid of the mask head's cells with a margin, with the colours averaged over each cell. theta_alpha is
    a multiple of the square root of the box's area, as in `refine` with ``theta_alpha_scale="instance"``. theta_gamma
    is in steps of the CRF's grid: cells here, pixels in `refine`.
    """

    def __init__(self, start: CRFParams) -> None:
        super().__init__()
        self.start = start
        self.layer = CRFLayer.from_params(start)
        self._boxes: list[Tensor] = []
        self._logits: Tensor | None = None

    def note_boxes(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """Before the pooling of mask features, whose arguments are features, boxes per image, and sizes."""
        if module.training:
            self._boxes = arguments[1]

    def note_logits(self, module: nn.Module, arguments: tuple[Any, ...], logits: Tensor) -> None:
        """After the mask predictor: logits (R, classes, M, M) of all boxes."""
        if module.training:
            self._logits = logits

    def add_loss(self, module: nn.Module, arguments: tuple[Any, ...], losses: dict[str, Tensor]) -> None:
        """After the network's forward pass on (images, targets)."""
        boxes, logits = self._boxes, self._logits
        self._boxes, self._logits = [], None
        if module.training and logits is not None:
            losses[LOSS] = self(*arguments, boxes, logits)

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]], boxes: list[Tensor], logits: Tensor
    ) -> Tensor:
        """The cross entropy between the CRF's marginals and the objects' masks.

        Args:
            images: (3, H, W) in [0, 1].
            targets: boxes, labels and masks of the annotated objects.
            boxes: per image (R_i, 4), the proposals that show an object.
            logits: (Σ R_i, classes, M, M).
        """
        total, side = len(logits), logits.shape[-1]
        step = max(1, math.ceil(total / _MOST))
        kept = torch.arange(0, total, step, device=logits.device)
        odds, colours, truth, inside, spacing = [], [], [], [], []
        first = 0
        for image, target, found in zip(images, targets, boxes, strict=True):
            chosen = kept[(kept >= first) & (kept < first + len(found))]
            found, first = found[chosen - first].detach(), first + len(found)
            if not len(found):
                continue
            # The object that the network matched each proposal with: the one of the highest IoU.
            match = box_iou(target["boxes"], found).argmax(0)
            odds.append(logits[chosen, target["labels"][match]].float())
            cell = (found[:, 2:] - found[:, :2]) / side
            window = found + _MARGIN * torch.cat([-cell, cell], 1)
            options = {"output_size": side + 2 * _MARGIN, "sampling_ratio": 2, "aligned": True}
            colours.append(_lab(roi_align(image[None].float(), [window], **options)))
            masks = target["masks"][:, None].float()
            truth.append(roi_align(masks, torch.cat([match[:, None].to(window), window], 1), **options)[:, 0])
            inside.append(_inside(window, options["output_size"], image.shape[1:]))
            spacing.append(cell.flip(1) / (cell.prod(1, keepdim=True).sqrt() * side))
        if not odds:  # no object in these images: a loss of zero, so that every parameter gets a gradient
            return 0 * (logits.sum() + sum(parameter.sum() for parameter in self.parameters()))
        sure = math.log(self.start.confidence / (1 - self.start.confidence))
        energies = -F.pad(torch.cat(odds).clamp(-sure, sure), (_MARGIN,) * 4, value=-sure)
        unary, mask = torch.stack([torch.zeros_like(energies), energies], 1), torch.cat(inside)
        marginals = self.layer(unary, torch.cat(colours), mask, torch.cat(spacing))[:, 1]
        return F.binary_cross_entropy(marginals[mask].clamp(0, 1), torch.cat(truth)[mask].clamp(0, 1))


def _lab(colours: Tensor) -> Tensor:
    """RGB (R, 3, S, S) in [0, 1] as Lab; colours have no gradient here."""
    pixels = (255 * colours.clamp(0, 1)).round().to("cpu", torch.uint8).permute(0, 2, 3, 1)
    lab = torch.from_numpy(rgb_to_lab(pixels.flatten(0, 1).numpy())).reshape(pixels.shape)
    return lab.permute(0, 3, 1, 2).to(colours)


def _inside(windows: Tensor, size: int, image_size: torch.Size) -> Tensor:
    """Whether the centre of each cell of windows (R, 4) lies in the image: bool (R, size, size)."""
    centres = (torch.arange(size, device=windows.device) + 0.5) / size
    x, y = (windows[:, k, None] + centres * (windows[:, k + 2] - windows[:, k])[:, None] for k in (0, 1))
    height, width = image_size
    return ((y > 0) & (y < height))[:, :, None] & ((x > 0) & (x < width))[:, None]
