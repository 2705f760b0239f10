"""Figures of a search: the paper's heat map (Figure 6) and curves (Figure 7), and the points that TPE tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crispmask.plots import Axis, Line, Panel, draw_heat_map, draw_panels
from crispmask.tuning.outcome import Outcome
from crispmask.tuning.space import Values, unit
from crispmask.tuning.study import Trial
from crispmask.tuning.task import LABELS

_LINES = 6  # more are hard to distinguish


def draw_grid(folder: Path, outcome: Outcome, names: Sequence[str]) -> list[Path]:
    """Write ``heat_map.png`` (two parameters or more) and ``curves.png`` of a grid; parameters that are not shown
    have the values of the best point.

    Args:
        folder: where to.
        outcome: of the search.
        names: the tuned parameters, in the order of the axes.

    Returns:
        The files written.
    """
    values = {name: sorted({t.values[name] for t in outcome.trials}) for name in names}
    varied = [name for name in names if len(values[name]) > 1]
    at = _best_on_grid(outcome)
    written = []
    if len(varied) > 1:
        written.append(folder / "heat_map.png")
        _draw_heat_map(written[-1], outcome, varied[:2], values, at)
    panels = [_curves(outcome, name, varied, values, at) for name in varied if _is_number(values[name][0])]
    if panels:
        written.append(folder / "curves.png")
        draw_panels(written[-1], panels)
    return written


def draw_search(folder: Path, outcome: Outcome, names: Sequence[str]) -> list[Path]:
    """Write ``search.png``: the score of every point that TPE tried by its number, and by each parameter."""
    scores = np.array([100 * trial.scores.all for trial in outcome.trials])
    numbers = np.arange(1, len(scores) + 1)
    label = _score_label(outcome)
    best = max(outcome.trials, key=lambda trial: trial.scores.all)
    progress = Panel(
        Axis("points tried"),
        Axis(label),
        [Line(numbers, np.fmax.accumulate(scores), "best so far")],
        title="Search",
        levels=_levels(outcome),
    )
    panels = [progress]
    for name in names:
        tried = [trial.values[name] for trial in outcome.trials]
        if _is_number(tried[0]):
            panels.append(
                Panel(
                    Axis(unit(name, outcome.params, names), _is_wide(tried)),
                    Axis(label),
                    [Line(tried, scores)],
                    title=name,
                    points=True,
                    star=(best.values[name], 100 * best.scores.all),
                )
            )
    draw_panels(folder / "search.png", panels)
    return [folder / "search.png"]


def _draw_heat_map(path: Path, outcome: Outcome, axes: Sequence[str], values: dict[str, list], at: Trial) -> None:
    rows, columns = (values[name] for name in axes)
    cells = np.full((len(rows), len(columns)), np.nan)
    for trial in outcome.trials:
        if _same(trial.values, at.values, but=axes):
            cells[rows.index(trial.values[axes[0]]), columns.index(trial.values[axes[1]])] = 100 * trial.scores.all
    place = rows.index(at.values[axes[0]]), columns.index(at.values[axes[1]])
    votes = Counter(
        (rows.index(fold.chosen[axes[0]]), columns.index(fold.chosen[axes[1]]))
        for fold in outcome.folds
        if fold.chosen and _same(fold.chosen, at.values, but=axes)
    )
    draw_heat_map(
        path,
        rows,
        columns,
        cells,
        row_label=unit(axes[0], outcome.params, list(values)),
        column_label=unit(axes[1], outcome.params, list(values)),
        value_label=_score_label(outcome),
        title=_capital(LABELS[outcome.objective]),
        note=f"framed: best on all {outcome.images} images; n/{len(outcome.folds)}: folds that chose the point",
        star=place,
        counts={cell: f"{count}/{len(outcome.folds)}" for cell, count in votes.items()},
    )


def _curves(outcome: Outcome, name: str, varied: Sequence[str], values: dict[str, list], at: Trial) -> Panel:
    """The score along one parameter, a line for each value of another one."""
    partner = next((other for other in varied if other != name), None)
    series: dict[Any, list[Trial]] = {}
    for trial in outcome.trials:
        if _same(trial.values, at.values, but=[name, *([partner] if partner else [])]):
            series.setdefault(trial.values[partner] if partner else "", []).append(trial)
    chosen = at.values[partner] if partner else ""
    # The lines nearest to the best one, where there are too many.
    order = sorted(series)
    middle = order.index(chosen)
    first = max(0, min(middle - _LINES // 2, len(order) - _LINES))
    lines = []
    for key in order[first : first + _LINES]:
        trials = sorted(series[key], key=lambda trial: trial.values[name])
        value = f"{key:.3g}" if _is_number(key) else key
        label = f"{unit(partner, outcome.params, ()).split(' (')[0]} = {value}" if partner else ""
        lines.append(Line([t.values[name] for t in trials], [100 * t.scores.all for t in trials], label))
    return Panel(
        Axis(unit(name, outcome.params, list(values)), _is_wide(values[name])),
        Axis(_score_label(outcome)),
        lines,
        title=f"Along {name}",
        levels=_levels(outcome),
    )


def _best_on_grid(outcome: Outcome) -> Trial:
    return max(outcome.trials, key=lambda trial: trial.scores.all)


def _same(values: Values, others: Values, but: Sequence[str]) -> bool:
    return all(values[name] == others[name] for name in values if name not in but)


def _levels(outcome: Outcome) -> dict[str, float]:
    return {"unrefined": 100 * outcome.unrefined.all, "learned": 100 * outcome.learned.all}


def _score_label(outcome: Outcome) -> str:
    return f"{LABELS[outcome.objective].removesuffix(' of matched masks')}, %"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= 4


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
