"""The sections of the page about all objects: the headline, the table, the distribution of the changes, the foot."""

from __future__ import annotations

import math
from html import escape

import numpy as np
from numpy.typing import NDArray

from crispmask._version import __version__
from crispmask.coco import CocoDataset
from crispmask.evaluation.comparison import SMALLEST_CHANGE, Comparison, Value
from crispmask.evaluation.report.charts import histogram
from crispmask.evaluation.report.markup import percent, points, signed, span

KINDS = {"segm": "Masks", "boundary": "Boundaries", "bbox": "Boxes"}


def iou_changes(comparison: Comparison) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The change of IoU and of boundary IoU of every pair: float64 (n,) each."""
    pairs = comparison.pairs
    return pairs.iou[:, 1] - pairs.iou[:, 0], pairs.boundary_iou[:, 1] - pairs.boundary_iou[:, 0]


def lead(comparison: Comparison, dataset: CocoDataset) -> str:
    """What is compared, what is unusual in it, and the main result."""
    before, after = (escape(name) for name in comparison.names)
    objects, pairs = sum(comparison.objects.values()), len(comparison.pairs)
    words = (
        f"<b class=before>{before}</b> against <b class=after>{after}</b> on {comparison.images} images of "
        f"{escape(dataset.path.name)} with {objects} annotated objects. {before} finds {pairs} of them "
        f"(mask IoU of at least 0.5); these are the matched instances below."
    )
    headline = _headline(comparison.overall[comparison.names[1]]["segm"]["AP"])
    notes = "".join(f"<p class=lead>{escape(note)}</p>" for note in comparison.notes)
    return f"<p class=lead>{words}</p>{notes}<p class=headline>{headline}</p>"


def _headline(value: Value) -> str:
    """The main result as a sentence."""
    change, interval = value.change, value.interval
    if change is None or math.isnan(change):
        return "There is no object to measure mask AP with."
    if not value.changed:
        return "Mask AP does not change (by less than 0.05 points)."
    words = f"Mask AP {'rises' if change > 0 else 'falls'} by {abs(100 * change):.1f} points"
    if interval is None or math.isnan(interval.low):
        return f"{words}."
    chance = "more than" if value.significant else "no more than"
    ends = f"{points(interval.low, 2)} to {points(interval.high, 2)}"
    return f"{words}, {chance} the choice of images explains (95 % interval {ends})."


def tiles(comparison: Comparison) -> str:
    """The most important numbers."""
    overall = comparison.overall
    _, after = comparison.names
    change, _ = iou_changes(comparison)
    chosen = [("Mask AP", "segm", "AP"), ("Boundary AP", "boundary", "AP")]
    chosen += [("Mean IoU", "matched", "IoU"), ("Mean boundary IoU", "matched", "boundary IoU")]
    made = []
    for label, kind, metric in chosen:
        value = overall[after][kind][metric]
        first = overall[comparison.names[0]][kind][metric].value
        made.append(
            f"<div class=tile><h3>{label}</h3><p class=big>{percent(value.value)}"
            f"<small> from {percent(first)}</small></p><p>{signed(value)}{span(value.interval)}</p></div>"
        )
    gained, lost = (change > SMALLEST_CHANGE).sum(), (change < -SMALLEST_CHANGE).sum()
    total = max(len(change), 1)
    bar = (
        f'<div class=share role=img aria-label="{gained} of {len(change)} masks better, {lost} worse">'
        f'<i class=better style="flex:{gained}"></i><i class=same style="flex:{len(change) - gained - lost}"></i>'
        f'<i class=worse style="flex:{lost}"></i></div>'
    )
    made.append(
        f"<div class=tile><h3>Masks that gained</h3><p class=big>{100 * gained / total:.0f}<small> % of "
        f"{len(change)}</small></p>{bar}<p>{gained} better, {lost} worse</p></div>"
    )
    return "".join(made)


def table(comparison: Comparison) -> str:
    """AP of all kinds in the layout of the paper's Table 1, with the changes and their intervals."""
    before, after = comparison.names
    rows = []
    for kind, label in KINDS.items():
        if kind not in comparison.kinds:
            continue
        first, other = comparison.overall[before][kind], comparison.overall[after][kind]
        metrics = "".join(f"<th>{_subscript(name)}</th>" for name in other)
        rows.append(f"<tbody><tr class=kind><th>{label}</th>{metrics}</tr>")
        for name, values in ((before, first), (after, other)):
            cells = "".join(f"<td>{percent(value.value)}</td>" for value in values.values())
            rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
        cells = "".join(f"<td>{signed(v)}{span(v.interval)}</td>" for v in other.values())
        rows.append(f"<tr class=change><th>change</th>{cells}</tr></tbody>")
    return f"<div class=scroll><table class=ap>{''.join(rows)}</table></div>"


def _subscript(metric: str) -> str:
    stem, _, below = metric.partition("_")
    return f"{stem}<sub>{below}</sub>" if below else stem


def spread(comparison: Comparison) -> str:
    """The distribution of the changes of IoU and boundary IoU."""
    parts = []
    for change, label in zip(iou_changes(comparison), ("IoU", "boundary IoU"), strict=True):
        if not len(change):
            return "<p class=none>There are no matched instances.</p>"
        gained, lost = (float((side > SMALLEST_CHANGE).mean()) for side in (change, -change))
        words = (
            f"Mean {points(float(change.mean()))}, median {points(float(np.median(change)))} points; "
            f"{100 * gained:.0f} % better, {100 * lost:.0f} % worse, the rest unchanged (grey)."
        )
        chart = histogram(change, f"Distribution of the change of {label}")
        parts.append(f"<figure><figcaption><b>Change of {label}</b>, points</figcaption>{chart}<p>{words}</p></figure>")
    return "".join(parts)


def foot(comparison: Comparison, left: int) -> str:
    """How the numbers were made; `left` crops were left out."""
    parts = []
    if comparison.resamples:
        parts.append(
            f"Intervals: paired bootstrap over the {comparison.images} images, {comparison.resamples} resamples, seed "
            f"{comparison.seed}; the middle 95 % of the differences. A change in bold is not 0.0, and its interval "
            "leaves out 0."
        )
    parts.append(
        "Matched instances: in the order of descending score, each detection of the first result matches the object of "
        "its category with the highest mask IoU, at least 0.5, that is not matched yet. The second result is measured "
        "on the same objects."
    )
    if left:
        parts.append(f"{left} crops were left out to keep the page small.")
    return "".join(f"<p>{part}</p>" for part in [*parts, f"crispmask {__version__}"])
