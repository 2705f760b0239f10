"""What decides a run of `crispmask learn`; without torch, so that the options show where it is missing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from crispmask.errors import ParamsError
from crispmask.params import check_limits

PRECISIONS = ("int8", "float16")

# Lowest and highest value of each number.
_LIMITS = {
    "samples": (1, 10**9),
    "batch_size": (1, 4096),
    "learning_rate": (1e-7, 1),
    "detected": (0, 1),
    "held_out": (0.01, 0.9),
    "measured": (10, 10**6),
    "least_margin": (-1, 1),
    "seed": (0, 2**31),
}


@dataclass(frozen=True)
class LearnConfig:
    """Everything that decides a run.

    Attributes:
        init: what the network starts from: 'shipped', the one that ships; 'imagenet', an EfficientNet-Lite0 that was
            trained on ImageNet; 'none', random weights; or the ONNX file of an earlier run.
        training: train the network; otherwise only the CRF's setting and the gate are learned for it.
        tuning: compare settings of the CRF; otherwise that of the parameters that ship stays.
        samples: prompts that the network is trained on.
        batch_size: prompts per step.
        learning_rate: peak of the learning rate. The network that ships loses at higher ones: masks of a mask head on
            Penn-Fudan, 83.0 IoU, become 92.6 with it, 92.1 after twenty steps at 5e-5, and 84.7 at 2e-4.
        detected: share of the prompts that are masks of a detector, for objects that one found.
        held_out: share of the images on which nothing is trained, to learn the CRF's setting and the gate on.
        measured: annotated objects that these are learned from, at most.
        least_margin: gain, less what the risk costs, that the gate asks for at least. On images that the network was
            trained on its answers are better than on new ones, and the gate that is learned there would be too bold.
        precision: of the exported network: 'float16' or 'int8'.
        seed: of everything that is drawn.

    Raises:
        ParamsError: a value outside its range.
    """

    init: str = "shipped"
    training: bool = True
    tuning: bool = True
    samples: int = 4000
    batch_size: int = 8
    learning_rate: float = 5e-5
    detected: float = 0.4
    held_out: float = 0.15
    measured: int = 160
    least_margin: float = -1.0
    precision: str = "float16"
    seed: int = 0

    def __post_init__(self) -> None:
        check_limits(self, _LIMITS)
        if self.precision not in PRECISIONS:
            raise ParamsError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")

    @property
    def steps(self) -> int:
        """Optimiser steps: a batch that is begun counts."""
        return -(-self.samples // self.batch_size)

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping of names to values."""
        return asdict(self)
