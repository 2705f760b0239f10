"""A comparison as tables: for the terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from crispmask.evaluation.bootstrap import Interval
    from crispmask.evaluation.comparison import Comparison, Metrics, Value

LABELS = {"segm": "masks", "boundary": "edges", "bbox": "boxes", "matched": "matched"}


def as_json(comparison: Comparison, per_class: bool) -> str:
    """Everything as JSON: fractions, null where undefined."""
    labels, pairs = comparison.labels, comparison.pairs
    content: dict[str, Any] = {
        "images": comparison.images,
        "objects": sum(comparison.objects.values()),
        "matched": len(pairs),
        "bootstrap": {"resamples": comparison.resamples, "seed": comparison.seed} if comparison.resamples else None,
        "results": {name: _plain(metrics) for name, metrics in comparison.overall.items()},
    }
    if per_class:
        content["classes"] = {
            labels[key]: {
                "id": key,
                "objects": comparison.objects[key],
                "matched": int((pairs.category_id == key).sum()),
                "results": {name: _plain(metrics) for name, metrics in results.items()},
            }
            for key, results in comparison.by_category.items()
        }
    return json.dumps(content, indent=2)


def _plain(metrics: Metrics) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for kind, values in metrics.items():
        made[kind] = {name: _number(value.value) for name, value in values.items()}
        changed = {name: value for name, value in values.items() if value.change is not None}
        if changed:
            made[kind]["change"] = {
                name: dict(zip(("value", "low", "high"), (_number(value.change), *_ends(value)), strict=True))
                for name, value in changed.items()
            }
    return made


def _ends(value: Value) -> tuple[float | None, float | None]:
    return (None, None) if value.interval is None else (_number(value.interval.low), _number(value.interval.high))


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def as_csv(comparison: Comparison, per_class: bool) -> str:
    """A line for each number: class, result, kind, metric, value, change, low, high; empty where undefined."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "result", "kind", "metric", "value", "change", "low", "high"])
    parts = [("", comparison.overall)]
    if per_class:
        parts += [(comparison.labels[key], results) for key, results in comparison.by_category.items()]
    for label, results in parts:
        for result, metrics in results.items():
            for kind, values in metrics.items():
                for name, value in values.items():
                    numbers = _number(value.value), _number(value.change), *_ends(value)
                    writer.writerow([label, result, kind, name, *numbers])
    return text.getvalue()


def as_markdown(comparison: Comparison, per_class: bool) -> str:
    """The tables in Markdown, percent."""
    lines = []
    for kind in comparison.kinds:
        metrics = list(comparison.overall[comparison.names[0]][kind])
        heading = f"{LABELS[kind]}, {len(comparison.pairs)} pairs" if kind == "matched" else LABELS[kind]
        rows = [[heading, *metrics]]
        for name in comparison.names:
            values = list(comparison.overall[name][kind].values())
            rows.append([name, *map(_markdown_cell, values)])
        lines += [*_markdown(rows), ""]
    if per_class:
        heads, body = _class_rows(comparison)
        lines += [*_markdown([heads, *body]), ""]
    return "\n".join([*lines, footnote(comparison)]).rstrip()


def _markdown(rows: list[list[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return [lines[0], "| --- |" + " ---: |" * (len(rows[0]) - 1), *lines[1:]]


def _markdown_cell(value: Value) -> str:
    if value.change is None or math.isnan(value.change):
        return percent(value.value)
    text = f"{percent(value.value)} ({change(value.change)}"
    if value.interval is not None:
        text += f" {span(value.interval)}"
    text += ")"
    return f"**{text}**" if value.interval is not None and value.interval.excludes_zero else text


def as_tables(comparison: Comparison, per_class: bool) -> Iterator[Table | Text]:
    """What the terminal shows."""
    from rich.text import Text

    average = [kind for kind in comparison.kinds if kind != "matched"]
    yield _overview(comparison, average, "Average precision, %")
    yield _overview(comparison, ["matched"], f"Mean overlap of {len(comparison.pairs)} matched instances, %")
    if per_class:
        yield _classes(comparison)
    words = footnote(comparison)
    if words:
        yield Text(words, style="dim")


def _overview(comparison: Comparison, kinds: list[str], title: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    reference, *others = comparison.names
    grid = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", title_justify="left", min_width=len(title))
    grid.add_column("", style="dim", no_wrap=True)
    grid.add_column("", overflow="fold", min_width=8)  # "  change" in one line
    for metric in comparison.overall[reference][kinds[0]]:
        grid.add_column(metric, justify="right", no_wrap=True)
    for kind in kinds:
        first = comparison.overall[reference][kind].values()
        label = LABELS[kind] if len(kinds) > 1 else ""
        grid.add_row(label, Text(reference), *(percent(v.value) for v in first), end_section=not others)
        for name in others:
            values = list(comparison.overall[name][kind].values())
            rows = [("  change", [_coloured(v) for v in values])]
            if comparison.resamples:
                ends = ("  from", "low"), ("  to", "high")
                rows += [(head, [_end(v, end) for v in values]) for head, end in ends]
            grid.add_row("", Text(name), *(percent(v.value) for v in values))
            for k, (head, cells) in enumerate(rows, start=1):
                last = name == others[-1] and k == len(rows)
                grid.add_row("", Text(head, style="dim"), *cells, end_section=last)
    return grid


def _classes(comparison: Comparison) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heads, rows = _class_rows(comparison)
    grid = Table(box=box.SIMPLE_HEAD, title="By category, AP in %", title_style="bold", title_justify="left")
    grid.add_column(heads[0], no_wrap=True, min_width=10)
    for head in heads[1:]:
        grid.add_column(Text(head), justify="right", no_wrap=head == "objects")
    for row in rows:
        grid.add_row(*map(Text, row))
    return grid


def _class_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: AP of every kind for each category with objects; a star marks a change beyond chance."""
    kinds = [kind for kind in comparison.kinds if kind != "matched"]
    heads = ["category", "objects"]
    heads += [f"{LABELS[kind]} {name}" for kind in kinds for name in comparison.names]
    rows = []
    for key, results in comparison.by_category.items():
        if comparison.objects[key]:
            cells = [_class_cell(results[name][kind]["AP"]) for kind in kinds for name in comparison.names]
            rows.append([comparison.labels[key], str(comparison.objects[key]), *cells])
    return heads, rows


def _class_cell(value: Value) -> str:
    if value.change is None:
        return percent(value.value)
    star = "*" if value.interval is not None and value.interval.excludes_zero else ""
    return f"{percent(value.value)} {change(value.change)}{star}"


def footnote(comparison: Comparison) -> str:
    """What the intervals are; empty where there are none."""
    if not comparison.resamples:
        return ""
    return (
        f"In bold or with a star: the 95 % interval of the change leaves out 0 "
        f"(paired bootstrap over {comparison.images} images, {comparison.resamples} resamples, seed {comparison.seed})."
    )


def percent(value: float) -> str:
    """A fraction in percent with one decimal, "-" where it is not defined."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def change(value: float, digits: int = 1) -> str:
    """A difference in percentage points, with its sign."""
    if math.isnan(value):
        return "-"
    text = f"{100 * value:+.{digits}f}"
    return text if float(text) else text.replace("-", "+")


def span(interval: Interval) -> str:
    """An interval in percentage points, with the digits that tell on which side of 0 its ends lie."""
    return f"[{change(interval.low, 2)}, {change(interval.high, 2)}]"


def _coloured(value: Value) -> Text:
    """A change, coloured where it shows, bold where chance does not explain it."""
    from rich.text import Text

    if value.change is None or math.isnan(value.change):
        return Text("")
    style = "dim" if abs(value.change) < 0.0005 else "green" if value.change > 0 else "red"
    certain = value.interval is not None and value.interval.excludes_zero
    return Text(change(value.change), style=f"{style} bold" if certain and style != "dim" else style)


def _end(value: Value, end: str) -> Text:
    from rich.text import Text

    number = math.nan if value.interval is None else getattr(value.interval, end)
    return Text("" if math.isnan(number) else change(number, 2), style="dim")
