"""What decides the masks of an image, besides the detector; and compiling what that needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crispmask.errors import ParamsError
from crispmask.instances import Instances
from crispmask.params import DEFAULT_SCORE
from crispmask.refinement import LearnedParams, Params, default_params, explain, refine_instances


@dataclass(frozen=True)
class Settings:
    """What decides the masks of an image, besides the detector.

    Attributes:
        params: of the refinement; by default the learned ones that ship.
        score: detections below it are dropped, in [0, 1].
        refine: whether to refine at all; if not, the masks after are the masks before.
        joint: whether every pixel belongs to one instance at most.

    Raises:
        ParamsError: a score outside [0, 1].
    """

    params: Params = field(default_factory=default_params)
    score: float = DEFAULT_SCORE
    refine: bool = True
    joint: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise ParamsError(f"score must be a number in [0, 1], got {self.score!r}")
        object.__setattr__(self, "score", float(self.score))

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping of names to values; parameters that have no effect are left out."""
        own = {"score": self.score, "refine": self.refine}
        return {**own, "joint": self.joint, **self.params.as_dict()} if self.refine else own


def prepare(settings: Settings) -> None:
    """Compile what refining with these settings will need, on a few pixels.

    It compiles only what these settings use: on two busy cores 51 s, where `crispmask.crf.warmup`, which compiles
    what any settings need, took 124 s; with Numba's cache filled both only load the machine code.
    """
    if settings.refine:
        image = np.zeros((16, 16, 3), np.uint8)
        masks = np.eye(16, dtype=bool)[None].repeat(2, axis=0)  # two, so that joint refinement has three labels
        instances, params = Instances.from_masks(masks), settings.params
        if isinstance(params, LearnedParams):  # which might leave these masks alone
            explain(image, instances, params, threads=1)
            params = params.crf
        refine_instances(image, instances, params, threads=1, joint=settings.joint)
