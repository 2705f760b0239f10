"""A comparison as tables: for the terminal, as Markdown, CSV, JSON, dictionaries and a pandas table."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from crispmask.errors import CrispmaskError
from crispmask.evaluation.bootstrap import Interval
from crispmask.evaluation.comparison import Comparison, Metrics, Value

if TYPE_CHECKING:
    import pandas
    from rich.table import Table
    from rich.text import Text

LABELS = {"segm": "masks", "boundary": "boundaries", "bbox": "boxes", "matched": "matched"}
_COLUMNS = ("class", "result", "kind", "metric", "value", "change", "low", "high")


def as_dict(comparison: Comparison, per_class: bool) -> dict[str, Any]:
    """Everything as plain dictionaries: fractions, None where undefined."""
    labels, pairs = comparison.labels, comparison.pairs
    content: dict[str, Any] = {
        "images": comparison.images,
        "objects": sum(comparison.objects.values()),
        "matched": len(pairs),
        "left_out": list(comparison.left_out.values()),
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
    return content


def as_json(comparison: Comparison, per_class: bool) -> str:
    """`as_dict` as JSON."""
    return json.dumps(as_dict(comparison, per_class), indent=2)


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
    writer.writerow(_COLUMNS)
    writer.writerows(_rows(comparison, per_class))
    return text.getvalue()


def as_data_frame(comparison: Comparison, per_class: bool) -> pandas.DataFrame:
    """The lines of `as_csv` as a pandas table.

    Raises:
        CrispmaskError: pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise CrispmaskError("pandas is needed for this and is not installed: run pip install pandas") from None
    table = pandas.DataFrame(_rows(comparison, per_class), columns=list(_COLUMNS))
    return table.astype(dict.fromkeys(_COLUMNS[4:], float))


def _rows(comparison: Comparison, per_class: bool) -> list[list[Any]]:
    """One for each number; None where undefined."""
    parts = [("", comparison.overall)]
    if per_class:
        parts += [(comparison.labels[key], results) for key, results in comparison.by_category.items()]
    return [
        [label, result, kind, name, _number(value.value), _number(value.change), *_ends(value)]
        for label, results in parts
        for result, metrics in results.items()
        for kind, values in metrics.items()
        for name, value in values.items()
    ]


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
    return f"**{text}**" if value.significant else text


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


def as_text(comparison: Comparison) -> str:
    """What the terminal shows, without colours, and the notes below it."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100, color_system=None, highlight=False)
    for part in as_tables(comparison, per_class=False):
        console.print(part)
    for note in comparison.notes:
        console.print(note, markup=False)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()).strip("\n")


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
    """Heads and rows: AP of every kind for each category with objects; a star marks a significant change."""
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
    star = "*" if value.significant else ""
    return f"{percent(value.value)} {change(value.change)}{star}"


def footnote(comparison: Comparison) -> str:
    """What the intervals are, as a sentence; empty where there are none."""
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
    """A difference in percentage points, with its sign; "-" where it is not defined."""
    if math.isnan(value):
        return "-"
    text = f"{100 * value:+.{digits}f}"
    return text if float(text) else text.replace("-", "+")


def span(interval: Interval) -> str:
    """An interval in percentage points, with two decimals, which show on which side of 0 its ends are."""
    return f"[{change(interval.low, 2)}, {change(interval.high, 2)}]"


def _coloured(value: Value) -> Text:
    """A change: dim where it is 0.0, else green or red, and bold where it is significant."""
    from rich.text import Text

    if value.change is None or math.isnan(value.change):
        return Text("")
    style = "dim" if not value.changed else "green" if value.change > 0 else "red"
    return Text(change(value.change), style=f"{style} bold" if value.significant else style)


def _end(value: Value, end: str) -> Text:
    from rich.text import Text

    number = math.nan if value.interval is None else getattr(value.interval, end)
    return Text("" if math.isnan(number) else change(number, 2), style="dim")
