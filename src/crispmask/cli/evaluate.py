"""``crispmask evaluate``: average precision of results, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crispmask.cli import tables
from crispmask.cli.console import note, out, waiting
from crispmask.errors import DataError, ParamsError

if TYPE_CHECKING:
    from crispmask.coco import CocoDataset
    from crispmask.evaluation.comparison import Comparison


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
    per_class: Annotated[bool, typer.Option("--per-class", help="Also show every category by itself.")] = False,
    bootstrap: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Resample the images N times for 95 % intervals of the changes; 1000 is plenty."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the resampling.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (fractions, null where undefined).")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables (percent).")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line for each number (fractions).")] = False,
) -> None:
    """Compare results with the truth: average precision of masks, their boundaries, and boxes.

    With several results, each is followed by its change from the first. Matched instances are the objects that the
    first result finds: their mean IoU and boundary IoU say what happened to the masks themselves.
    """
    if as_json + as_markdown + as_csv > 1:
        raise ParamsError("choose one of --json, --markdown and --csv")
    named = name_results(results)
    if bootstrap and len(named) == 1:
        note("There is nothing to compare one result with: --bootstrap has no effect.")
    _, _, comparison = measure(annotations, named, category, bootstrap if len(named) > 1 else 0, seed)
    if as_json:
        typer.echo(tables.as_json(comparison, per_class))
    elif as_markdown:
        typer.echo(tables.as_markdown(comparison, per_class))
    elif as_csv:
        typer.echo(tables.as_csv(comparison, per_class), nl=False)
    else:
        for part in tables.as_tables(comparison, per_class):
            out.print(part)


Records = dict[str, list[dict[str, Any]]]


def measure(
    annotations: Path, named: Mapping[str, Path], categories: Sequence[str] | None, resamples: int, seed: int
) -> tuple[CocoDataset, Records, Comparison]:
    """Read and compare the files, with a spinner, and say on stderr what is odd about them."""
    with waiting("Reading") as status:
        from crispmask.coco import CocoDataset, read_results
        from crispmask.evaluation.comparison import compare

        dataset = CocoDataset.from_file(annotations)
        records: Records = {name: read_results(path) for name, path in named.items()}
        comparison = compare(
            dataset,
            records,
            category_ids=category_ids(dataset, categories),
            resamples=resamples,
            seed=seed,
            sources={name: str(path) for name, path in named.items()},
            on_step=lambda step: status.update(f"{step} ..."),
        )
    _remark(dataset, records, comparison)
    return dataset, records, comparison


def _remark(dataset: CocoDataset, records: Records, comparison: Comparison) -> None:
    """Say what may be a mistake: images without detections, categories that nobody annotated, missing boxes."""
    for name, found in records.items():
        empty = len(dataset.images) - len({record["image_id"] for record in found} & set(dataset.images))
        if empty:
            note(f"{name} has no detection in {empty} of {len(dataset.images)} images; what is there counts as missed.")
        foreign = sum(record["category_id"] not in dataset.categories for record in found)
        if foreign:
            note(f"{name} has {foreign} of {len(found)} detections in categories that {dataset.path} does not have.")
    if "bbox" not in comparison.kinds:
        note("Boxes are left out: a result or the annotations have none.")


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


def category_ids(dataset: CocoDataset, names: Sequence[str] | None) -> list[int] | None:
    """The ids of categories by name; None for all.

    Raises:
        DataError: a name that the data set does not have.
    """
    if not names:
        return None
    for name in names:
        if name not in dataset.categories.values():
            known = ", ".join(dataset.categories.values())
            raise DataError(f"{dataset.path} has no category {name!r}; it has {known}")
    return [key for key, name in dataset.categories.items() if name in names]
