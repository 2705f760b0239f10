"""The result of a search, and what cross-validation says about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from crispmask.params import CRFParams
from crispmask.tuning.search import LEARNED, START, UNREFINED, settings_of
from crispmask.tuning.space import Values
from crispmask.tuning.study import Study, Trial
from crispmask.tuning.task import Scores, TuningTask


@dataclass(frozen=True)
class Fold:
    """One turn of the cross-validation; scores are fractions in [0, 1], NaN where there is nothing to measure.

    Attributes:
        images: number of images held out.
        chosen: the point that is best on the other images; empty where that is the start and lies outside the search.
        fitted: its score on those.
        held_out: its score on the images held out.
        best, start, learned, unrefined: on the images held out, the score of the point that is best on all images, of
            the setting that the search began with, of the learned parameters, and without refinement.
    """

    images: int
    chosen: Values
    fitted: float
    held_out: float
    best: float
    start: float
    learned: float
    unrefined: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """The best point, and how good it is.

    Attributes:
        objective: what was maximised.
        params: the best parameters on all images, complete.
        best: their point and scores; its values are empty where that is the start and lies outside the search.
        start, learned, unrefined: scores of the setting that the search began with, of the learned parameters, which
            `crispmask.refine` uses by default, and without refinement.
        folds: the cross-validation.
        trials: every point that was measured.
        images, matches: how many images and matched objects the scores are of.
    """

    objective: str
    params: CRFParams
    best: Trial
    start: Scores
    learned: Scores
    unrefined: Scores
    folds: tuple[Fold, ...]
    trials: tuple[Trial, ...]
    images: int
    matches: int

    def mean(self, what: str) -> float:
        """Mean over the folds of one of their scores, by name; folds with nothing to measure are left out."""
        values = [getattr(fold, what) for fold in self.folds]
        return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan

    @property
    def recommended(self) -> bool:
        """Whether to use `params`: on images held out, a choice without them is better than the learned parameters."""
        return self.mean("held_out") > self.mean("learned")

    @property
    def optimism(self) -> float:
        """How much higher the best point's score is because the images that it is measured on took part in the choice.

        The difference of two means over the same held-out images: of the point chosen on all images, and of the points
        that were chosen in each fold without the images that they are measured on.
        """
        return self.mean("best") - self.mean("held_out")


def conclude(task: TuningTask, study: Study, start: CRFParams) -> Outcome:
    """Choose the best point of a study, on all images and in every fold; the start takes part, and wins ties."""
    references = study.references
    # The start may be a point of the grid, or lie outside of what was searched.
    here = next((trial for trial in study.trials if settings_of(start, trial.values) == start), None)
    candidates = [here or Trial({}, references[START]), *study.trials]
    best = _best(candidates, lambda scores: scores.all)
    folds = []
    for k, fold in enumerate(task.folds):
        chosen = _best(candidates, lambda scores, k=k: scores.fitted[k])  # type: ignore[misc]
        folds.append(
            Fold(
                len(fold),
                chosen.values,
                chosen.scores.fitted[k],
                chosen.scores.held_out[k],
                best.scores.held_out[k],
                references[START].held_out[k],
                references[LEARNED].held_out[k],
                references[UNREFINED].held_out[k],
            )
        )
    return Outcome(
        task.objective,
        settings_of(start, best.values),
        best,
        references[START],
        references[LEARNED],
        references[UNREFINED],
        tuple(folds),
        tuple(study.trials),
        len(task.image_ids),
        task.matches,
    )


def _best(candidates: Sequence[Trial], score: Callable[[Scores], float]) -> Trial:
    """The first of the highest; NaN never wins."""
    return max(candidates, key=lambda trial: -math.inf if math.isnan(score(trial.scores)) else score(trial.scores))
