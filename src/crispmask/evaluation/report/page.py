"""The page: its parts, from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask._version import __version__
from crispmask.coco import CocoDataset
from crispmask.coco.images import ImageFolder
from crispmask.errors import ParamsError
from crispmask.evaluation import bootstrap
from crispmask.evaluation.bootstrap import Interval
from crispmask.evaluation.comparison import MATCHED, Comparison, Value
from crispmask.evaluation.metrics import SIZE_NAMES, SIZES
from crispmask.evaluation.report.charts import MINUS, histogram, whisker
from crispmask.evaluation.report.crops import Card, make_card
from crispmask.files import write_text

KINDS = {"segm": "Masks", "boundary": "Edges", "bbox": "Boxes"}
DEFAULT_CROPS = 12
DEFAULT_MEGABYTES = 8.0
NONE = "\N{EN DASH}"
# A change of less is none: masks that differ in a pixel or two.
NOTHING = 0.0005


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: the page.
        bytes: its size.
        best, worst: crops of instances that gained, and that lost.
        left_out: crops that the limit of the size left no room for.
    """

    path: Path
    bytes: int
    best: int
    worst: int
    left_out: int


def write_report(
    path: str | Path,
    dataset: CocoDataset,
    images: str | Path,
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    comparison: Comparison,
    *,
    crops: int = DEFAULT_CROPS,
    megabytes: float = DEFAULT_MEGABYTES,
    title: str | None = None,
    on_crop: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write the page about two results.

    Args:
        path: of the HTML file; an older one is replaced when the page is complete.
        dataset: the ground truth.
        images: folder of its photos.
        results: the two results' records by name, before and after.
        comparison: of these results, from `crispmask.evaluation.comparison.compare`.
        crops: instances to show of those that gained most, and of those that lost most.
        megabytes: crops are left out, the least changed first, to keep the page below this size.
        title: of the page; by default made from the names.
        on_crop: called after each crop with the number done and the number of all.

    Raises:
        ParamsError: not two results, or nonsensical limits.
        DataError: photos that are missing or not those of the annotations.
    """
    if len(comparison.names) != 2 or tuple(results) != comparison.names:
        raise ParamsError(f"a report is about two results, before and after; got {len(results)}")
    if crops < 0 or not megabytes > 0:
        raise ParamsError("the number of crops cannot be negative, and the size of the page must be above 0")
    photos = ImageFolder(Path(images), dataset)
    best, worst = _extremes(comparison, crops)
    cards: dict[int, Card] = {}
    left, room = [], megabytes * 1e6 - 100_000  # for everything but the crops
    order = [pair for rank in range(crops) for side in (best, worst) for pair in side[rank : rank + 1]]
    for done, pair in enumerate(order, start=1):
        card = make_card(dataset, photos, results, comparison.pairs, pair)
        if card.weight > room:
            left.append(pair)
        else:
            cards[pair] = card
            room -= card.weight
        on_crop(done, len(order))
    shown = [[cards[pair] for pair in side if pair in cards] for side in (best, worst)]
    name = title or " → ".join(comparison.names)
    page = Template(_resource("page.html")).substitute(
        title=escape(name),
        style=_resource("style.css"),
        lead=_lead(comparison, dataset),
        tiles=_tiles(comparison),
        table=_table(comparison),
        spread=_spread(comparison),
        sizes=_sizes(comparison, dataset),
        classes=_classes(comparison),
        best=_gallery(shown[0], comparison, "gained"),
        worst=_gallery(shown[1], comparison, "lost"),
        foot=_foot(comparison, len(left)),
    )
    write_text(Path(path), page)
    return Report(Path(path), len(page.encode()), len(shown[0]), len(shown[1]), len(left))


def _resource(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _changes(comparison: Comparison) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Change of IoU and of boundary IoU of every pair."""
    pairs = comparison.pairs
    return pairs.iou[:, 1] - pairs.iou[:, 0], pairs.boundary_iou[:, 1] - pairs.boundary_iou[:, 0]


def _extremes(comparison: Comparison, n: int) -> tuple[list[int], list[int]]:
    """The pairs that gained most IoU, and those that lost most."""
    change, _ = _changes(comparison)
    order = np.argsort(change, kind="stable").tolist()
    worst = [k for k in order[:n] if change[k] < -NOTHING]
    best = [k for k in order[::-1][:n] if change[k] > NOTHING]
    return best, worst


def _lead(comparison: Comparison, dataset: CocoDataset) -> str:
    before, after = (escape(name) for name in comparison.names)
    objects, pairs = sum(comparison.objects.values()), len(comparison.pairs)
    words = (
        f"<b class=before>{before}</b> against <b class=after>{after}</b> on {comparison.images} images of "
        f"{escape(dataset.path.name)} with {objects} annotated objects. {before} finds {pairs} of them "
        f"(mask IoU of at least 0.5); these are the matched instances below."
    )
    verdict = _verdict(comparison.overall[comparison.names[1]]["segm"]["AP"])
    return f"<p class=lead>{words}</p><p class=verdict>{verdict}</p>"


def _verdict(value: Value) -> str:
    """The main result as a sentence."""
    change, span = value.change, value.interval
    if change is None or math.isnan(change):
        return "There is no object to measure mask AP with."
    verb = "rises" if change > 0 else "falls" if change < 0 else "stays"
    words = f"Mask AP {verb}" + (f" by {abs(100 * change):.1f} points" if change else " as it is")
    if span is None or math.isnan(span.low):
        return f"{words}."
    chance = "more than the choice of photos explains" if span.excludes_zero else "within what other photos could give"
    return f"{words}, {chance} (95 % interval {_points(span.low, 2)} to {_points(span.high, 2)})."


def _tiles(comparison: Comparison) -> str:
    overall = comparison.overall
    _, after = comparison.names
    change, _ = _changes(comparison)
    chosen = [("Mask AP", "segm", "AP"), ("Boundary AP", "boundary", "AP")]
    chosen += [("Mean IoU", "matched", "IoU"), ("Mean boundary IoU", "matched", "boundary IoU")]
    tiles = []
    for label, kind, metric in chosen:
        value = overall[after][kind][metric]
        first = overall[comparison.names[0]][kind][metric].value
        tiles.append(
            f"<div class=tile><h3>{label}</h3><p class=big>{_percent(value.value)}"
            f"<small> from {_percent(first)}</small></p><p>{_signed(value)}{_range(value.interval)}</p></div>"
        )
    gained, lost = (change > NOTHING).sum(), (change < -NOTHING).sum()
    total = max(len(change), 1)
    bar = (
        f'<div class=share role=img aria-label="{gained} of {len(change)} masks better, {lost} worse">'
        f'<i class=better style="flex:{gained}"></i><i class=same style="flex:{len(change) - gained - lost}"></i>'
        f'<i class=worse style="flex:{lost}"></i></div>'
    )
    tiles.append(
        f"<div class=tile><h3>Masks that gained</h3><p class=big>{100 * gained / total:.0f}<small> % of "
        f"{len(change)}</small></p>{bar}<p>{gained} better, {lost} worse</p></div>"
    )
    return "".join(tiles)


def _table(comparison: Comparison) -> str:
    """AP of all kinds in the layout of the paper's Table 1, with the changes and their intervals."""
    before, after = comparison.names
    rows = []
    for kind, label in KINDS.items():
        if kind not in comparison.kinds:
            continue
        first, other = comparison.overall[before][kind], comparison.overall[after][kind]
        metrics = "".join(
            f"<th>{name.replace('_', '<sub>') + ('</sub>' if '_' in name else '')}</th>" for name in other
        )
        rows.append(f"<tbody><tr class=kind><th>{label}</th>{metrics}</tr>")
        for name, values in ((before, first), (after, other)):
            cells = "".join(f"<td>{_percent(value.value)}</td>" for value in values.values())
            rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
        cells = "".join(f"<td>{_signed(v)}{_range(v.interval)}</td>" for v in other.values())
        rows.append(f"<tr class=change><th>change</th>{cells}</tr></tbody>")
    return f"<div class=scroll><table class=ap>{''.join(rows)}</table></div>"


def _subscript(metric: str) -> str:
    stem, _, below = metric.partition("_")
    return f"{stem}<sub>{below}</sub>" if below else stem


def _spread(comparison: Comparison) -> str:
    parts = []
    for change, label in zip(_changes(comparison), ("IoU", "boundary IoU"), strict=True):
        if not len(change):
            return "<p class=none>There are no matched instances.</p>"
        gained, lost = (float((side > NOTHING).mean()) for side in (change, -change))
        words = (
            f"Mean {_points(float(change.mean()))}, median {_points(float(np.median(change)))} points; "
            f"{100 * gained:.0f} % better, {100 * lost:.0f} % worse, the rest as it was (grey)."
        )
        chart = histogram(change, f"Distribution of the change of {label}")
        parts.append(f"<figure><figcaption><b>Change of {label}</b>, points</figcaption>{chart}<p>{words}</p></figure>")
    return "".join(parts)


Row = tuple[str, int, dict[str, tuple[float, Value]]]


def _sizes(comparison: Comparison, dataset: CocoDataset) -> str:
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


def _classes(comparison: Comparison) -> str:
    before, after = comparison.names
    rows: list[Row] = []
    for key, results in comparison.by_category.items():
        count = int((comparison.pairs.category_id == key).sum())
        if count:
            first, other = results[before]["matched"], results[after]["matched"]
            cells = {label: (first[label].value, other[label]) for label in other}
            rows.append((escape(comparison.labels[key]), count, cells))
    rows.sort(key=lambda row: -row[1])
    if len(rows) <= 12:
        return _forest("category", rows)
    rest = f"<details><summary>{len(rows) - 12} more categories</summary>{_forest('category', rows[12:])}</details>"
    return _forest("category", rows[:12]) + rest


def _forest(heading: str, rows: Sequence[Row]) -> str:
    """A table of changes with their intervals as whiskers, all on one scale."""
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
                f"<td class=wide>{_percent(first)}</td><td class=wide>{_percent(value.value)}</td>"
                f"<td class=fig>{chart}<span>{_signed(value)}{_range(value.interval)}</span></td>"
            )
        lines.append(f"<tr><th>{name}</th><td>{count}</td>{''.join(line)}</tr>")
    axis = f"The axis of every bar runs from {MINUS}{100 * reach:.0f} to +{100 * reach:.0f} points."
    return f"<div class=scroll><table class=forest>{''.join(lines)}</table></div><p class=axis>{axis}</p>"


def _gallery(cards: Sequence[Card], comparison: Comparison, verb: str) -> str:
    if not cards:
        return f"<p class=none>No matched instance {verb} IoU, or there was no room for crops.</p>"
    return f"<div class=gallery>{''.join(_card(card, comparison) for card in cards)}</div>"


def _card(card: Card, comparison: Comparison) -> str:
    pairs, k = comparison.pairs, card.pair
    label = escape(comparison.labels[int(pairs.category_id[k])])
    change = pairs.iou[k, 1] - pairs.iou[k, 0]
    size = next(name for name, (_, high) in zip(SIZE_NAMES[1:], SIZES[1:], strict=True) if pairs.area[k] <= high)
    panels = "".join(
        f'<figure class="{name}"><img src="{uri}" alt="{escape(words)}: {label} in {escape(card.file_name)}">'
        f"<figcaption>{escape(words)}</figcaption></figure>"
        for name, (words, uri) in zip(("before", "after", "truth", "change"), card.panels, strict=True)
    )
    fields = "".join(
        f"<div><dt>{name}</dt><dd>{_percent(values[k, 0])} → {_percent(values[k, 1])}</dd></div>"
        for name, values in (("IoU", pairs.iou), ("boundary IoU", pairs.boundary_iou))
    )
    fields += f"<div><dt>score</dt><dd>{card.score:.2f}</dd></div>"
    fields += f"<div><dt>size</dt><dd>{size}, {pairs.area[k]:.0f} px</dd></div>"
    side = "better" if change > 0 else "worse"
    return (
        f"<article><header><b>{label}</b><b class={side}>{_points(change)}</b></header>"
        f"<div class=panels>{panels}</div><dl>{fields}</dl><p class=file>{escape(card.file_name)}</p></article>"
    )


def _foot(comparison: Comparison, left: int) -> str:
    parts = []
    if comparison.resamples:
        parts.append(
            f"Intervals: paired bootstrap over the {comparison.images} images, {comparison.resamples} resamples, seed "
            f"{comparison.seed}; the middle 95 % of the differences. A change in bold has an interval without 0."
        )
    parts.append(
        "Matched instances: each detection of the first result, the surest first, takes the object of its category "
        "with the highest mask IoU that is left, if that is 0.5 or more; the second result is measured on the same "
        "objects."
    )
    if left:
        parts.append(f"{left} crops were left out to keep the page small.")
    return "".join(f"<p>{part}</p>" for part in [*parts, f"crispmask {__version__}"])


def _percent(value: float) -> str:
    return NONE if math.isnan(value) else f"{100 * value:.1f}"


def _points(value: float, digits: int = 1) -> str:
    """A difference in percentage points with its sign."""
    if math.isnan(value):
        return NONE
    text = f"{100 * value:+.{digits}f}"
    return (text if float(text) else text.replace("-", "+")).replace("-", MINUS)


def _signed(value: Value) -> str:
    """A change, coloured by its direction, in bold where its interval leaves out 0."""
    if value.change is None or math.isnan(value.change):
        return ""
    side = "same" if abs(value.change) < NOTHING else "better" if value.change > 0 else "worse"
    sure = " sure" if value.interval is not None and value.interval.excludes_zero else ""
    return f'<span class="{side}{sure}">{_points(value.change)}</span>'


def _range(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.low):
        return ""
    low, high = _points(interval.low, 2), _points(interval.high, 2)
    return f" <span class=range><span>{low}</span><i> … </i><span>{high}</span></span>"
