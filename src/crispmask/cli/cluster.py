"""What the verbs that can run on many machines have in common: their options, and how such a run is shown."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from crispmask.cli.console import count, note, progress_bar
from crispmask.cli.crf import PREPARING
from crispmask.errors import ParamsError

if TYPE_CHECKING:
    from crispmask.cluster import Progress
    from crispmask.pipeline import Settings

PANEL = "Many machines (--engine ray, extra 'cluster')"
Report = TypeVar("Report")

Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(help="Where the work is done: in this process, or by a Ray cluster.", rich_help_panel=PANEL),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|auto",
        help="The cluster; by default RAY_ADDRESS, or one of this machine alone.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
PhotosPerFile = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Rows of a Parquet file at least; an interruption costs so many. [dim]\\[default: 100][/dim]",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Gpus = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="X",
        help="Graphics processors of one detector; by default 1 where there are any.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Json = Annotated[
    bool | None,
    typer.Option(
        "--json/--no-json",
        help="Also write COCO JSON, whose rows must fit into memory. [dim]\\[default: json][/dim]",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]


def only(engine: str, **options: Any) -> None:
    """Raise ParamsError for options of the other engine that the user set; None counts as not set."""
    for name, value in options.items():
        if value is not None:
            flag = name.replace("_", "-")
            raise ParamsError(f"--{flag} is for --engine {engine}: leave it out, or choose that engine")


def on_ray(
    run: Callable[[Callable[[Progress], None]], Report], unit: str, settings: Settings, address: str | None
) -> tuple[Report, float]:
    """Run something on a cluster with a progress bar; its report, and the seconds that the work took."""
    started = time.monotonic()
    with progress_bar(unit) as progress, _resumable():
        task = progress.add_task("Looking for the cluster", total=None)
        if not (address or os.environ.get("RAY_ADDRESS")) and settings.refine:
            from crispmask.pipeline import prepare

            progress.update(task, description=PREPARING)
            prepare(settings)  # its processes find the machine code in Numba's cache then
            progress.update(task, description="Starting Ray")
        first = True

        def show(step: Progress) -> None:
            nonlocal started, first
            if not first:
                progress.update(task, completed=step.done, description=count(step.objects, "object"))
                return
            first = False
            if step.resumed:
                done = f"{step.resumed} of {count(step.total, unit)}"
                note(f"Going on with an interrupted run, which had finished {done}.")
            started = time.monotonic()
            progress.reset(task, total=step.total, completed=step.done, description="Starting the stages")

        report = run(show)
    return report, time.monotonic() - started


@contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        note("Interrupted: the same command goes on from here.")
        raise
