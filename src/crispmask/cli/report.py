"""``crispmask report``: one page about two results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crispmask.cli.console import note, progress_bar, say
from crispmask.cli.evaluate import AllCategories, Annotations, Categories, Seed, measure, name_results
from crispmask.errors import ParamsError


def report(
    results: Annotated[
        list[str], typer.Argument(metavar="[NAME=]BEFORE.json [NAME=]AFTER.json", help="Two COCO results files.")
    ],
    annotations: Annotations,
    images: Annotated[Path, typer.Option("-i", "--images", metavar="DIR", help="Folder of the annotated images.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="REPORT.html", help="The page.")],
    category: Categories = None,
    all_categories: AllCategories = False,
    crops: Annotated[
        int, typer.Option(metavar="N", min=0, help="Show so many of the best and of the worst changes.")
    ] = 12,
    bootstrap: Annotated[
        int, typer.Option(metavar="N", min=0, help="Resample the images N times for 95 % intervals.")
    ] = 1000,
    seed: Seed = 0,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Title of the page.", show_default=False)] = None,
    megabytes: Annotated[
        float, typer.Option("--max-size", metavar="MB", help="Leave out crops that would make the page larger.")
    ] = 8.0,
) -> None:
    """Write one self-contained HTML page about two results.

    The page holds the table of average precision with intervals, the changes of IoU by size and by category, and crops
    of the instances that gained and lost most, before, after and as annotated. It loads nothing from elsewhere.
    """
    named = name_results(results)
    if len(named) != 2:
        raise ParamsError(f"a report is about two results, before and after; got {len(named)}")
    sides, comparison = measure(annotations, named, category, all_categories, bootstrap, seed)
    from crispmask.evaluation.report import write_report

    with progress_bar("crop") as progress:
        task = progress.add_task("Drawing", total=None)
        done = write_report(
            output,
            sides.dataset,
            images,
            sides.records,
            comparison,
            crops=crops,
            megabytes=megabytes,
            title=title,
            on_crop=lambda n, total: progress.update(task, completed=n, total=total),
        )
    if done.left_out:
        note(f"{done.left_out} crops were left out to keep the page below {megabytes:g} MB (--max-size).")
    say(f"Report     {done.path}  ({done.bytes / 1e6:.1f} MB; {done.best} that gained, {done.worst} that lost)")
