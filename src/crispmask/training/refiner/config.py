"""What decides a run of `crispmask learn`; without torch, so that the options show where it is missing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from crispmask.params import check_limits

# Lowest and highest value of each number.
_LIMITS = {
    "steps": (1, 10**7),
    "batch_size": (1, 4096),
    "learning_rate": (1e-7, 1),
    "views": (0, 100),
    "held_out": (2, 100),
    "min_size": (1, 10**4),
    "min_iou": (0.01, 0.99),
    "min_score": (0, 1),
    "category_min": (1, 10**9),
    "seed": (0, 2**31),
}


@dataclass(frozen=True)
class LearnConfig:
    """Everything that decides a run.

    Attributes:
        network: learn a unary network (extra 'torch') rather than rules for the CRF alone.
        steps: optimiser steps of each of the two networks: the one that is kept, and the one to learn the rules with.
        batch_size: masks per step.
        learning_rate: peak of the network's learning rate.
        views: changed copies of each photo on which the detector is run besides the photo itself.
        held_out: one photo in so many is kept from the network that the rules are learnt with.
        min_size: objects below this square root of their box's area are left out, pixels.
        min_iou: a detection and an object are a pair from this mask IoU on.
        min_score: detections below it are left out.
        category_min: classes with at least so many masks get rules of their own.
        seed: of everything that is drawn.

    Raises:
        ParamsError: a value outside its range.
    """

    network: bool = True
    steps: int = 2400
    batch_size: int = 16
    learning_rate: float = 2e-3
    views: int = 1
    held_out: int = 4
    min_size: int = 14
    min_iou: float = 0.35
    min_score: float = 0.05
    category_min: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        check_limits(self, _LIMITS)

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping of names to values."""
        return asdict(self)
