"""What each setting does to masks whose objects are annotated: the evidence from which the rules are learnt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispmask.evaluation.overlap import mask_overlaps
from crispmask.instances import Instances
from crispmask.refinement import LearnedParams, try_settings


@dataclass(frozen=True)
class Sample:
    """A mask, its features, and how well it and each setting's result agree with the annotated object.

    Attributes:
        features: float32 (F,).
        overlaps: float64 (1 + K, 2): IoU and boundary IoU of the mask itself, then of each setting's.
        category: id.
        group: number of its photo.
        kind: what made the mask.
    """

    features: NDArray[np.float32]
    overlaps: NDArray[np.float64]
    category: int
    group: int
    kind: str

    @property
    def gains(self) -> NDArray[np.float64]:
        """Mean of the gains in IoU and in boundary IoU, of each setting: (K,)."""
        return (self.overlaps[1:] - self.overlaps[0]).mean(axis=1)


def measure(
    image: NDArray[np.uint8], one: Instances, truth: NDArray[np.bool_], params: LearnedParams, group: int, kind: str
) -> Sample:
    """Try all settings on the only instance of `one`, whose object is `truth` (H, W)."""
    features, windows = try_settings(image, one, 0, params)
    masks = [one.mask(0), *(one.with_windows([window]).mask(0) for window in windows)]
    overlaps = np.array([mask_overlaps(mask, truth) for mask in masks])
    return Sample(features, overlaps, int(one.category_ids[0]), group, kind)
