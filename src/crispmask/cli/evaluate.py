"""``crispmask evaluate``: average precision of results, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crispmask.cli.console import note, out, waiting
from crispmask.errors import DataError, ParamsError

if TYPE_CHECKING:
    from crispmask.evaluation.comparison import Comparison
    from crispmask.evaluation.reading import Sides

Annotations = Annotated[
    Path, typer.Option("-a", "--annotations", metavar="GT.json", help="COCO annotation file: the ground truth.")
]
Categories = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this category; repeatable.")]
AllCategories = Annotated[
    bool, typer.Option("--all-categories", help="Also count categories in which no result has a detection.")
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the resampling.")]


def evaluate(
    results: Annotated[
        list[str], typer.Argument(metavar="[NAME=]RESULTS.json", help="COCO results files, the reference first.")
    ],
    annotations: Annotations,
    category: Categories = None,
    all_categories: AllCategories = False,
    per_class: Annotated[bool, typer.Option("--per-class", help="Also show every category by itself.")] = False,
    bootstrap: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Resample the images N times for 95 % intervals of the changes; 1000 is plenty."
        ),
    ] = 0,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (fractions, null where undefined).")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables (percent).")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line for each number (fractions).")] = False,
) -> None:
    """Measure results against the ground truth: average precision of masks, their boundaries, and boxes.

    With several results, each is followed by its change from the first. Matched instances are the objects that the
    first result finds; their mean IoU and boundary IoU show what happened to the masks alone. Categories in which no
    result has a detection are left out.
    """
    if as_json + as_markdown + as_csv > 1:
        raise ParamsError("choose one of --json, --markdown and --csv")
    named = name_results(results)
    if bootstrap and len(named) == 1:
        note("There is nothing to compare one result with: --bootstrap has no effect.")
        bootstrap = 0
    _, comparison = measure(annotations, named, category, all_categories, bootstrap, seed)
    from crispmask.evaluation import tables

    if as_json:
        typer.echo(tables.as_json(comparison, per_class))
    elif as_markdown:
        typer.echo(tables.as_markdown(comparison, per_class))
    elif as_csv:
        typer.echo(tables.as_csv(comparison, per_class), nl=False)
    else:
        for part in tables.as_tables(comparison, per_class):
            out.print(part)


def measure(
    annotations: Path,
    named: dict[str, Path],
    categories: Sequence[str] | None,
    all_categories: bool,
    bootstrap: int,
    seed: int,
) -> tuple[Sides, Comparison]:
    """Read and compare the files, with a spinner, and show on stderr what is unusual in them."""
    with waiting("Reading") as status:
        from crispmask.evaluation.api import compare_sides
        from crispmask.evaluation.reading import read_sides

        sides = read_sides(annotations, named)
        comparison = compare_sides(
            sides,
            categories=categories,
            all_categories=all_categories,
            bootstrap=bootstrap,
            seed=seed,
            on_step=lambda step: status.update(f"{step} ..."),
        )
    for sentence in comparison.notes:
        note(sentence)
    if comparison.left_out:
        note("Count them too with --all-categories.")
    return sides, comparison


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
