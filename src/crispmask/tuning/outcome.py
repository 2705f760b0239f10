"""What a search found, and what cross-validation says of it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crispmask._version import __version__
from crispmask.files import write_text
from crispmask.params import CRFParams
from crispmask.tuning.search import START, UNREFINED, settings_of
from crispmask.tuning.space import Values
from crispmask.tuning.study import Study, Trial
from crispmask.tuning.task import LABELS, Scores, TuningTask


@dataclass(frozen=True)
class Fold:
    """One turn of the cross-validation; scores are fractions in [0, 1], NaN where there is nothing to measure.

    Attributes:
        photos: number of photos held out.
        chosen: the point that is best on the other photos; empty where that is the start and lies outside the search.
        fitted: its score on those.
        held_out: its score on the photos held out.
        best, start, unrefined: on the photos held out, the score of the point that is best on all photos, of the
            parameters that the search began with, and without refinement.
    """

    photos: int
    chosen: Values
    fitted: float
    held_out: float
    best: float
    start: float
    unrefined: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """The best point, and what to believe of it.

    Attributes:
        objective: what was maximised.
        params: the best parameters on all photos, complete.
        best: their point and scores; its values are empty where that is the start and lies outside the search.
        start, unrefined: scores of the parameters that the search began with, and without refinement.
        folds: the cross-validation.
        trials: every point that was measured.
        photos, matches: how many photos and matched objects the scores are of.
    """

    objective: str
    params: CRFParams
    best: Trial
    start: Scores
    unrefined: Scores
    folds: tuple[Fold, ...]
    trials: tuple[Trial, ...]
    photos: int
    matches: int

    def mean(self, what: str) -> float:
        """Mean over the folds of one of their scores, by name; folds with nothing to measure are left out."""
        values = [getattr(fold, what) for fold in self.folds]
        return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan

    @property
    def optimism(self) -> float:
        """By how much the best point looks better on photos that took part in choosing it than a choice without them.

        Both means are over the same held-out photos: of the point chosen on all photos, and of those that were chosen
        fold by fold without the photos that they are measured on.
        """
        return self.mean("best") - self.mean("held_out")


def conclude(task: TuningTask, study: Study, start: CRFParams) -> Outcome:
    """Choose the best point of a study, on all photos and in every fold; the start takes part, and wins ties."""
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
                references[UNREFINED].held_out[k],
            )
        )
    return Outcome(
        task.objective,
        settings_of(start, best.values),
        best,
        references[START],
        references[UNREFINED],
        tuple(folds),
        tuple(study.trials),
        len(task.photos),
        task.matches,
    )


def write_scores(path: Path, outcome: Outcome) -> None:
    """Every point with its scores on all photos and in the folds, as CSV of fractions; the references come first."""
    names = list(dict.fromkeys(name for trial in outcome.trials for name in trial.values))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    sides = [f"{side}_{k + 1}" for k in range(len(outcome.folds)) for side in ("fitted", "held_out")]
    rows.writerow(["point", *names, outcome.objective.replace("-", "_"), *sides])
    points: list[tuple[Any, Trial]] = [
        (UNREFINED, Trial({}, outcome.unrefined)),
        (START, Trial({}, outcome.start)),
        *enumerate(outcome.trials, start=1),
    ]
    for label, trial in points:
        scores = trial.scores
        folds = [value for pair in zip(scores.fitted, scores.held_out, strict=True) for value in pair]
        numbers = ["" if math.isnan(value) else f"{value:.6f}" for value in (scores.all, *folds)]
        rows.writerow([label, *(trial.values.get(name, "") for name in names), *numbers])
    write_text(path, text.getvalue())


def write_params(path: Path, outcome: Outcome) -> None:
    """The best parameters as TOML for ``--params``, headed by where they come from."""
    label = LABELS[outcome.objective]
    everything, unrefined = 100 * outcome.best.scores.all, 100 * outcome.unrefined.all
    lines = [
        f"# Chosen by crispmask {__version__}, tune, among {len(outcome.trials)} points on {outcome.photos} photos.",
        f"# {label[:1].upper()}{label[1:]} on these photos: {everything:.2f} %, unrefined {unrefined:.2f} %.",
        f"# Held out in {len(outcome.folds)}-fold cross-validation: {100 * outcome.mean('held_out'):.2f} %, "
        f"unrefined {100 * outcome.mean('unrefined'):.2f} %.",
    ]
    write_text(path, "\n".join(lines) + "\n\n" + outcome.params.to_toml())


def write_summary(path: Path, outcome: Outcome) -> None:
    """The outcome as JSON, scores as fractions, null where undefined."""
    content = {
        "objective": outcome.objective,
        "photos": outcome.photos,
        "matches": outcome.matches,
        "points": len(outcome.trials),
        "best": {"values": outcome.best.values, "score": _plain(outcome.best.scores.all)},
        "start": _plain(outcome.start.all),
        "unrefined": _plain(outcome.unrefined.all),
        "cross_validation": {
            "folds": [{key: _plain(value) for key, value in vars(fold).items()} for fold in outcome.folds],
            "mean": {key: _plain(outcome.mean(key)) for key in ("held_out", "best", "start", "unrefined")},
            "optimism": _plain(outcome.optimism),
        },
        "params": outcome.params.as_dict(),
    }
    write_text(path, json.dumps(content, indent=2) + "\n")


def _best(candidates: Sequence[Trial], score: Callable[[Scores], float]) -> Trial:
    """The first of the highest; NaN never wins."""
    return max(candidates, key=lambda trial: -math.inf if math.isnan(score(trial.scores)) else score(trial.scores))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
