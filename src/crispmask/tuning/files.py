"""The files of a search: its points, the best parameters, a summary, figures."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crispmask._version import __version__
from crispmask.files import write_text
from crispmask.tuning.outcome import Outcome
from crispmask.tuning.search import LEARNED, START, UNREFINED
from crispmask.tuning.study import Trial
from crispmask.tuning.task import LABELS


def write_outcome(outcome: Outcome, names: Sequence[str], method: str, folder: Path) -> list[Path]:
    """Write ``scores.csv``, ``best.toml``, ``summary.json`` and the figures.

    Args:
        outcome: of the search.
        names: the tuned parameters; method: ``"grid"`` or ``"tpe"``.
        folder: where to.

    Returns:
        The figures' files.
    """
    from crispmask.tuning.figures import draw_grid, draw_search

    write_scores(folder / "scores.csv", outcome)
    write_params(folder / "best.toml", outcome)
    write_summary(folder / "summary.json", outcome)
    return (draw_grid if method == "grid" else draw_search)(folder, outcome, names)


def write_scores(path: Path, outcome: Outcome) -> None:
    """Every point with its scores on all images and in the folds, as CSV of fractions; the references come first."""
    names = list(dict.fromkeys(name for trial in outcome.trials for name in trial.values))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    sides = [f"{side}_{k + 1}" for k in range(len(outcome.folds)) for side in ("fitted", "held_out")]
    rows.writerow(["point", *names, outcome.objective.replace("-", "_"), *sides])
    points: list[tuple[Any, Trial]] = [
        (UNREFINED, Trial({}, outcome.unrefined)),
        (LEARNED, Trial({}, outcome.learned)),
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
    """The best parameters as TOML for ``--params``, with comments that say where they come from."""
    label = LABELS[outcome.objective]
    best, learned, unrefined = (100 * side.all for side in (outcome.best.scores, outcome.learned, outcome.unrefined))
    lines = [
        f"# Chosen by crispmask {__version__}, tune, among {len(outcome.trials)} points on {outcome.images} images.",
        f"# {label[:1].upper()}{label[1:]} on these images: {best:.2f} %, learned parameters {learned:.2f} %, "
        f"unrefined {unrefined:.2f} %.",
        f"# Held out in {len(outcome.folds)}-fold cross-validation: {100 * outcome.mean('held_out'):.2f} %, "
        f"learned parameters {100 * outcome.mean('learned'):.2f} %, "
        f"unrefined {100 * outcome.mean('unrefined'):.2f} %.",
    ]
    if not outcome.recommended:
        lines.append("# Not recommended: on images held out, the learned parameters are as good or better.")
    write_text(path, "\n".join(lines) + "\n\n" + outcome.params.to_toml())


def write_summary(path: Path, outcome: Outcome) -> None:
    """The outcome as JSON, scores as fractions, null where undefined."""
    content = {
        "objective": outcome.objective,
        "images": outcome.images,
        "matches": outcome.matches,
        "points": len(outcome.trials),
        "best": {"values": outcome.best.values, "score": _plain(outcome.best.scores.all)},
        "recommended": outcome.recommended,
        "start": _plain(outcome.start.all),
        "learned": _plain(outcome.learned.all),
        "unrefined": _plain(outcome.unrefined.all),
        "cross_validation": {
            "folds": [{key: _plain(value) for key, value in vars(fold).items()} for fold in outcome.folds],
            "mean": {key: _plain(outcome.mean(key)) for key in ("held_out", "best", "start", "learned", "unrefined")},
            "optimism": _plain(outcome.optimism),
        },
        "params": outcome.params.as_dict(),
    }
    write_text(path, json.dumps(content, indent=2) + "\n")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
