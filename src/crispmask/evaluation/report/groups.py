"""The sections of the page about groups of objects: the changes by size and by category."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from crispmask.coco import CocoDataset
from crispmask.evaluation import bootstrap
from crispmask.evaluation.bootstrap import Interval
from crispmask.evaluation.comparison import MATCHED, Comparison, Value
from crispmask.evaluation.metrics import SIZE_NAMES, SIZES
from crispmask.evaluation.report.charts import whisker
from crispmask.evaluation.report.markup import MINUS, percent, signed, span

Row = tuple[str, int, dict[str, tuple[float, Value]]]
"""A group: its name, how many objects it has, and by metric the value before and the value after."""

_SHOWN = 12  # categories that are not folded away


def sizes(comparison: Comparison, dataset: CocoDataset) -> str:
    """Change of the overlaps by the size of the annotated object, with bootstrap intervals over the same draws."""
    pairs = comparison.pairs
    values = np.concatenate([pairs.iou, pairs.boundary_iou], axis=1)
    image = np.searchsorted(np.array(list(dataset.images)), pairs.image_id)  # the ids ascend
    weights = bootstrap.draws(comparison.images, comparison.resamples, comparison.seed)
    rows: list[Row] = []
    for name, (low, high) in zip(SIZE_NAMES[1:], SIZES[1:], strict=True):
        own = (pairs.area > low) & (pairs.area <= high) if low else pairs.area <= high
        if not own.any():
            continue
        means = values[own].mean(axis=0)
        spans: list[Interval | None] = [None, None]
        if comparison.resamples:
            drawn = bootstrap.weighted_means(values[own], image[own], weights)
            spans = list(bootstrap.intervals(drawn[:, ::2], drawn[:, 1::2]))
        cells = {}
        for k, label in enumerate(MATCHED):
            first, other = means[2 * k : 2 * k + 2].tolist()
            cells[label] = first, Value(other, other - first, spans[k])
        rows.append((f"{name} <small>{_area_words(low, high)}</small>", int(own.sum()), cells))
    return _forest("size of the object", rows)


def _area_words(low: float, high: float) -> str:
    if not low:
        return f"to {math.isqrt(int(high))}² px"
    return f"from {math.isqrt(int(low))}² px" if high > 1e9 else f"to {math.isqrt(int(high))}² px"


def categories(comparison: Comparison) -> str:
    """Change of the overlaps by category, those with the most objects first."""
    before, after = comparison.names
    rows: list[Row] = []
    for key, results in comparison.by_category.items():
        count = int((comparison.pairs.category_id == key).sum())
        if count:
            first, other = results[before]["matched"], results[after]["matched"]
            cells = {label: (first[label].value, other[label]) for label in other}
            rows.append((escape(comparison.labels[key]), count, cells))
    rows.sort(key=lambda row: -row[1])
    if len(rows) <= _SHOWN:
        return _forest("category", rows)
    summary = f"<summary>{len(rows) - _SHOWN} more categories</summary>"
    rest = _forest("category", rows[_SHOWN:])
    return f"{_forest('category', rows[:_SHOWN])}<details>{summary}{rest}</details>"


def _forest(heading: str, rows: Sequence[Row]) -> str:
    """A table of changes with their intervals, all on one scale."""
    if not rows:
        return "<p class=none>There are no matched instances.</p>"
    ends = [0.01]
    for _, _, cells in rows:
        for _, value in cells.values():
            ends.append(abs(value.change or 0))
            if value.interval is not None and not math.isnan(value.interval.low):
                ends += [abs(value.interval.low), abs(value.interval.high)]
    reach = min(math.ceil(100 * max(ends)), 30) / 100
    labels = list(rows[0][2])
    heads = "".join(
        f"<th class=wide>before</th><th class=wide>after</th><th>change of {label}</th>" for label in labels
    )
    lines = [f"<tr><th>{heading}</th><th>n</th>{heads}</tr>"]
    for name, count, cells in rows:
        line = []
        for label, (first, value) in cells.items():
            chart = whisker(value.change or 0, value.interval, reach, f"change of {label}")
            line.append(
                f"<td class=wide>{percent(first)}</td><td class=wide>{percent(value.value)}</td>"
                f"<td class=fig>{chart}<span>{signed(value)}{span(value.interval)}</span></td>"
            )
        lines.append(f"<tr><th>{name}</th><td>{count}</td>{''.join(line)}</tr>")
    axis = f"The axis of every bar runs from {MINUS}{100 * reach:.0f} to +{100 * reach:.0f} points."
    return f"<div class=scroll><table class=forest>{''.join(lines)}</table></div><p class=axis>{axis}</p>"
