"""What decides the masks of an image, besides the detector; and compiling what that needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from crispmask.detectors import Classes, Detector, Selection, select
from crispmask.detectors.selection import check_score
from crispmask.instances import Instances
from crispmask.refinement import LearnedParams, Params, default_params, explain, refine_instances
from crispmask.refinement.clean import without_specks
from crispmask.refinement.masks import checked_params
from crispmask.refinement.solve import solve
from crispmask.refinement.unary import Unary
from crispmask.refinement.windows import Rect


@dataclass(frozen=True)
class Settings:
    """What decides the masks of an image, besides the detector.

    Attributes:
        params: of the refinement; by default the learned ones that ship.
        score: detections below it are dropped, in [0, 1]; by default the detector says which.
        refine: whether to refine at all; if not, the masks after are the masks before.
        joint: whether every pixel belongs to one instance at most.
        classes: the only classes that are wanted, names or category ids of the detector; by default all.
        tiles: N to look at N x N overlapping tiles of the image too, for small objects; 1 for the whole image alone; by
            default what the detector was loaded with.

    Raises:
        ParamsError: parameters of another type, or a score outside [0, 1].
    """

    params: Params = field(default_factory=default_params)
    score: float | None = None
    refine: bool = True
    joint: bool = False
    classes: Classes | None = None
    tiles: int | None = None

    def __post_init__(self) -> None:
        checked_params(self.params)
        if self.score is not None:
            object.__setattr__(self, "score", check_score(self.score))

    def applied_to(self, detector: Detector) -> tuple[Selection, Settings]:
        """The detector that gives what is wanted, and these settings with what they leave to it filled in.

        Raises:
            ParamsError: a class that the detector does not have, or a number of tiles out of range.
        """
        chosen = select(detector, score=self.score, classes=self.classes, tiles=self.tiles)
        chosen = select(chosen, score=chosen.default_score)
        return chosen, replace(self, score=chosen.score, classes=chosen.classes, tiles=chosen.tiles)

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping of names to values; parameters that have no effect are left out."""
        own: dict[str, Any] = {"score": self.score, "refine": self.refine}
        if self.classes is not None:
            own["classes"] = list(self.classes)
        if self.tiles not in (None, 1):
            own["tiles"] = self.tiles
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
            solve(image, [Unary(np.zeros((16, 16), np.float32), Rect(0, 0, 16, 16), 16.0, params, sampled=True)])
        refine_instances(image, instances, params, threads=1, joint=settings.joint)
        without_specks(masks[0].astype(np.float32), 0.5)  # of masks that joint refinement erases there are none
