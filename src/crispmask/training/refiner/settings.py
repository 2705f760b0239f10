"""The CRF behind the network: which of a few settings serves masks best, and how often the network sees a box."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.params import CRFParams
from crispmask.training.refiner.measure import ANNOTATION, DETECTOR, Measured, Setting

START = Setting(CRFParams(bilateral_weight=3.0, iterations=5))
"""Behind the network five updates do what ten do (within 0.1 points), in two thirds of the time."""

GRID: dict[str, tuple[Any, ...]] = {
    "theta_alpha": (0.05, 0.1),
    "bilateral_weight": (1.0, 2.0, 3.0),
}
TEMPERATURES = (1.0, 1.5)
"""Values of `CRFParams` and temperatures whose combinations are tried, besides `START`.

The others (theta_beta, smoothness, confidence, self term) change the gain by 0.2 points at most."""

BOX_PASSES = (1, 2, 3)


@dataclass(frozen=True)
class Tried:
    """A setting and the mean of the gains in IoU and boundary IoU with it, averaged over the kinds; see `compare`."""

    setting: Setting
    gain: float

    def changes(self) -> dict[str, Any]:
        """What differs from `CRFParams()`."""
        default = CRFParams().as_dict()
        return {k: v for k, v in self.setting.crf.as_dict().items() if v != default[k]} | (
            {} if self.setting.temperature == 1 else {"temperature": self.setting.temperature}
        )


def candidates() -> list[Setting]:
    """The settings to try: the start, no CRF at all, and the grid around the start."""
    made = [START, replace(START, crf=replace(START.crf, iterations=0))]
    for temperature, *values in itertools.product(TEMPERATURES, *GRID.values()):
        changes = dict(zip(GRID, values, strict=True))
        made.append(Setting(replace(START.crf, **changes), temperature))
    return list(dict.fromkeys(made))


def compare(masks: Sequence[Measured], settings: Sequence[Setting]) -> list[Tried]:
    """The settings with their gains, the best first.

    A kind that is made from annotations and loses with a setting counts as one that gains nothing: the gates will leave
    its masks alone. A detector's own masks, where there are any, count as much as all these kinds together: on held-out
    images of COCO these gain 2.1 to 2.3 points with any weight and without a CRF, the detector's 4.2 with the best and
    3.3 without. Annotations, which cannot gain, do not count.
    """
    gains: dict[str, NDArray[np.float64]] = {}
    for kind in sorted({m.kind for m in masks} - {ANNOTATION}):
        own = [m for m in masks if m.kind == kind]
        gains[kind] = np.mean([(np.array(m.after) - np.array(m.before)).mean(1) for m in own], axis=0)
    halves = [gains.pop(DETECTOR)] if DETECTOR in gains else []
    if gains:
        halves.append(np.maximum(list(gains.values()), 0).mean(0))
    whole = np.mean(halves, axis=0) if halves else np.zeros(len(settings))
    found = [Tried(setting, float(gain)) for setting, gain in zip(settings, whole, strict=True)]
    return sorted(found, key=lambda tried: -tried.gain)


def best_passes(boxes: Sequence[Measured], passes: Sequence[int]) -> tuple[int, tuple[tuple[float, float], ...]]:
    """The best number of passes on boxes, and mean IoU and boundary IoU after each."""
    means = np.mean([m.after for m in boxes], axis=0)
    return passes[int(means.mean(1).argmax())], tuple((float(a), float(b)) for a, b in means)
