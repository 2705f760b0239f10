"""The tables of a run, ``log.csv`` of the losses and ``validation.csv`` of the AP, and their curves."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from crispmask.files import write_text
from crispmask.plots import Axis, Line, Panel, draw_panels

LOG, VALIDATION, CURVES = "log.csv", "validation.csv", "curves.png"


class Table:
    """A CSV file whose first column is the step.

    Rows after the step at which a run resumes are dropped first: a run that was killed may have written rows after its
    last checkpoint, and the resumed run writes them again.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if not line[0].isdigit() or int(line.partition(",")[0]) <= step]
            write_text(path, "".join(kept) if step else "")

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row, and the header above the first one."""
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(["step", *values])
            writer.writerow([step, *values.values()])


def draw_curves(folder: Path) -> None:
    """Draw ``curves.png`` from the tables in a run's folder: loss, and mask AP where there is a validation set."""
    losses = _columns(folder / LOG)
    if not losses:
        return
    steps = losses.pop("step")
    losses.pop("seconds", None)
    span = max(1, len(steps) // 100)
    curves = {"total": [sum(row) for row in zip(*losses.values(), strict=True)], **losses}
    lines = [
        Line(steps, _smooth(values, span), name.removeprefix("loss_").replace("_", " "))
        for name, values in curves.items()
    ]
    panels = [Panel(Axis("step"), Axis("loss" if span == 1 else f"loss, mean of {span} steps"), lines, "Losses")]
    evaluations = _columns(folder / VALIDATION)
    if evaluations:
        at = evaluations.pop("step")
        lines = [Line(at, 100 * np.array(values), name) for name, values in evaluations.items()]
        panels.append(Panel(Axis("step"), Axis("mask AP, percent"), lines, "Validation set"))
    draw_panels(folder / CURVES, panels)


def _columns(path: Path) -> dict[str, list[float]]:
    """A table by column; empty where there is none."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]} if rows else {}


def _smooth(values: list[float], span: int) -> list[float]:
    """Moving average over the last `span` values; over fewer at the start."""
    sums = np.cumsum([0.0, *values])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - span, 0)
    return ((sums[ends] - sums[starts]) / (ends - starts)).tolist()
