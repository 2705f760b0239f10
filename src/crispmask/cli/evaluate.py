"""``crispmask evaluate``: average precision of results, side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crispmask.cli.console import note, out, waiting
from crispmask.errors import DataError

if TYPE_CHECKING:
    from rich.text import Text

TYPES: dict[Literal["segm", "boundary", "bbox"], str] = {"segm": "masks", "boundary": "edges", "bbox": "boxes"}


def evaluate(
    results: Annotated[
        list[str], typer.Argument(metavar="[NAME=]RESULTS.json", help="COCO results files, the reference first.")
    ],
    annotations: Annotated[
        Path, typer.Option("-a", "--annotations", metavar="GT.json", help="COCO annotation file with the truth.")
    ],
    category: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this category; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (fractions, null where undefined).")] = False,
) -> None:
    """Compare results with the truth: average precision of masks, their boundaries, and boxes.

    With several results, each is followed by its difference from the first.
    """
    named = name_results(results)
    with waiting("Reading"):
        from crispmask.coco import CocoDataset, read_results
        from crispmask.coco.metrics import evaluate as measure

        dataset = CocoDataset.from_file(annotations)
        records = {name: read_results(path) for name, path in named.items()}
        ids = None if not category else [_category_id(dataset.categories, name, annotations) for name in category]
    table: dict[str, dict[str, dict[str, float]]] = {name: {} for name in named}
    for name, results_of in table.items():
        for kind, label in TYPES.items():
            with waiting(f"Comparing the {label} of {name}"):
                results_of[kind] = measure(dataset, records[name], kind, category_ids=ids, source=str(named[name]))
    for name, found in records.items():
        empty = len(dataset.images) - len({record["image_id"] for record in found} & set(dataset.images))
        if empty:
            note(f"{name} has no detection in {empty} of {len(dataset.images)} images; what is there counts as missed.")
        foreign = sum(record["category_id"] not in dataset.categories for record in found)
        if foreign:
            note(f"{name} has {foreign} of {len(found)} detections in categories that {annotations} does not have.")
    if as_json:
        typer.echo(json.dumps({n: {k: _plain(v) for k, v in kinds.items()} for n, kinds in table.items()}, indent=2))
    else:
        _show(table)


def name_results(arguments: list[str]) -> dict[str, Path]:
    """Files by name: the one in front of ``=``, else the file's, with its folder where two are the same."""
    named: dict[str, Path] = {}
    stems = [Path(argument).stem for argument in arguments]
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals or Path(argument).exists():
            path = argument
            name = Path(argument).stem if stems.count(Path(argument).stem) == 1 else argument
        if name in named:
            raise DataError(f"two results are named {name!r}: give them names as in NAME=RESULTS.json")
        named[name] = Path(path)
    return named


def _category_id(categories: Mapping[int, str], name: str, source: Path) -> int:
    for key, known in categories.items():
        if known == name:
            return key
    raise DataError(f"{source} has no category {name!r}; it has {', '.join(categories.values())}")


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _show(table: dict[str, dict[str, dict[str, float]]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    reference, *others = table
    grid = Table(box=box.SIMPLE_HEAD, title="Average precision, %", title_style="bold", title_justify="left")
    grid.add_column("", style="dim", no_wrap=True)
    grid.add_column("", overflow="fold", min_width=8)  # "  change" in one line
    for metric in table[reference]["segm"]:
        grid.add_column(metric, justify="right", no_wrap=True)
    for kind, label in TYPES.items():
        first = table[reference][kind]
        grid.add_row(label, Text(reference), *map(_percent, first.values()), end_section=not others)
        for name in others:
            values = table[name][kind]
            changes = [_change(values[metric] - first[metric]) for metric in values]
            grid.add_row("", Text(name), *map(_percent, values.values()))
            grid.add_row("", Text("  change", style="dim"), *changes, end_section=name == others[-1])
    out.print(grid)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def _change(value: float) -> Text:
    """A difference in percentage points, coloured where it shows."""
    from rich.text import Text

    if math.isnan(value):
        return Text("")
    style = "dim" if abs(value) < 0.0005 else "green" if value > 0 else "red"
    return Text(f"{100 * value:+.1f}", style=style)
