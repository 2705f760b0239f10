"""What decides a training run; without torch, so that the command line can show the options where it is missing."""

from __future__ import annotations

from dataclasses import dataclass

from crispmask.errors import ParamsError

VARIANTS = ("lite0", "lite1", "lite2")

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
}


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a run; stored in its checkpoints.

    Attributes:
        steps: optimiser steps in all.
        batch_size: photos per step.
        learning_rate: peak learning rate of the heads.
        backbone_factor: learning rate of the backbone, as a multiple of the heads'.
        weight_decay: weight decay of AdamW, on weights of two and more dimensions.
        warmup: steps of linear warm-up.
        cooldown: last share of the steps in which the rate falls linearly to zero.
        average: decay of the exponential moving average of the weights, which is what gets exported.
        variant: EfficientNet-Lite variant of the backbone.
        channels: width of the pyramid and the heads.
        size: side of the square training canvas, pixels; a multiple of 32 above 64.
        seed: seed of weights, samples and samplers.

    Raises:
        ParamsError: a value outside its range.
    """

    steps: int = 6000
    batch_size: int = 2
    learning_rate: float = 4e-4
    backbone_factor: float = 0.5
    weight_decay: float = 0.03
    warmup: int = 300
    cooldown: float = 0.35
    average: float = 0.998
    variant: str = "lite2"
    channels: int = 128
    size: int = 576
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:  # NaN neither
                raise ParamsError(f"{name} must be from {low} to {high}, got {value!r}")
        if self.size % 32:
            raise ParamsError(f"size must be a multiple of 32, got {self.size}")
        if self.variant not in VARIANTS:
            raise ParamsError(f"variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}")

    def rate(self, step: int) -> float:
        """Factor on the learning rate at a step."""
        start = self.steps * (1 - self.cooldown)
        fall = 1.0 if step < start else max(0.0, (self.steps - step) / (self.steps - start))
        return min(1.0, (step + 1) / self.warmup) * fall
