"""The configuration of a training run; it needs no torch, so that the command line can show its options without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crispmask.detectors.weights import NAMES
from crispmask.errors import ParamsError
from crispmask.params import check_limits

VARIANTS = ("lite0", "lite1", "lite2")
INITS = ("imagenet", *NAMES)
PRECISIONS = ("auto", "no", "bf16", "fp16")

# A network that can detect already is trained with smaller steps than one whose heads are random.
_FINE_TUNING = {"learning_rate": 1e-4, "warmup": 100}

# Lowest and highest value of each number.
_LIMITS = {
    "steps": (1, 10**8),
    "batch_size": (1, 10**4),
    "learning_rate": (0, 1),
    "backbone_factor": (0, 100),
    "weight_decay": (0, 10),
    "warmup": (1, 10**8),
    "cooldown": (0, 1),
    "average": (0, 0.999999),
    "channels": (1, 4096),
    "size": (96, 8192),
    "seed": (0, 2**31),
    "evaluate_every": (1, 10**8),
    "patience": (0, 10**8),
    "crf_iterations": (1, 100),
    "crf_factor": (0, 10**4),
}


@dataclass(frozen=True)
class TrainingConfig:
    """The configuration of a run; stored in its checkpoints.

    Attributes:
        init: what the run starts from: ``imagenet`` (the compact network), ``maskrcnn_resnet50_fpn`` or
            ``maskrcnn_resnet50_fpn_v2`` (torchvision's, with its COCO weights).
        steps: optimiser steps in all.
        batch_size: images per step, shared among the processes.
        learning_rate: highest learning rate of the heads; by default 1e-4 if the run starts from a detector.
        backbone_factor: learning rate of the backbone, as a multiple of the heads'.
        weight_decay: weight decay of AdamW, on weights of two and more dimensions.
        warmup: steps of linear warm-up; by default 100 if the run starts from a detector.
        cooldown: share of the steps, at the end, in which the learning rate falls linearly to zero.
        average: decay of the exponential moving average of the weights, which is exported; lower in the first steps,
            see `decay`.
        precision: of the forward pass: ``no`` (float32), ``bf16``, ``fp16``, or ``auto``, the one that the device
            computes fastest.
        evaluate_every: steps between evaluations on the validation set.
        patience: the run stops after so many evaluations without a higher mask AP; 0 never stops it.
        crf: train a CRF after the mask head together with the network, and write the CRF's parameters too.
        crf_iterations: mean-field updates of that CRF.
        crf_factor: learning rate of the CRF's parameters, which are logarithms, as a multiple of the heads'.
        variant: EfficientNet-Lite variant of the compact network's backbone.
        channels: width of the compact network's pyramid and heads.
        size: side of the square training canvas, pixels; a multiple of 32 above 64.
        seed: seed of the initial weights, the samples and the proposal samplers.

    Raises:
        ParamsError: a value outside its range.
    """

    init: str = "imagenet"
    steps: int = 6000
    batch_size: int = 2
    learning_rate: float = 4e-4
    backbone_factor: float = 0.5
    weight_decay: float = 0.03
    warmup: int = 300
    cooldown: float = 0.35
    average: float = 0.998
    precision: str = "auto"
    evaluate_every: int = 500
    patience: int = 0
    crf: bool = False
    crf_iterations: int = 5
    crf_factor: float = 25.0
    variant: str = "lite2"
    channels: int = 128
    size: int = 576
    seed: int = 0

    def __post_init__(self) -> None:
        check_limits(self, _LIMITS)
        if self.size % 32:
            raise ParamsError(f"size must be a multiple of 32, got {self.size}")
        for name, known in (("init", INITS), ("variant", VARIANTS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ParamsError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    @classmethod
    def starting_from(cls, init: str = "imagenet", **chosen: Any) -> TrainingConfig:
        """The configuration for an `init`: its defaults, and the fields that are given."""
        return cls(**{"init": init, **(_FINE_TUNING if init != "imagenet" else {}), **chosen})

    def rate(self, step: int) -> float:
        """Factor on the learning rate at a step."""
        start = self.steps * (1 - self.cooldown)
        fall = 1.0 if step < start else max(0.0, (self.steps - step) / (self.steps - start))
        return min(1.0, (step + 1) / self.warmup) * fall

    def decay(self, step: int) -> float:
        """Decay of the moving average at a step: lower at first, so that the initial weights do not dominate it."""
        return min(self.average, (1 + step) / (10 + step))
