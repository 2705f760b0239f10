"""What the verbs that can run on many machines share: their options, and how such a run is shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from crispmask.cli.console import count
from crispmask.cli.resumable import Resumable
from crispmask.errors import ParamsError

if TYPE_CHECKING:
    from crispmask.pipeline import Progress, Settings

PANEL = "Many machines (--engine ray, extra 'cluster')"
Report = TypeVar("Report")

Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(help="Where the work is done: in this process, or on a Ray cluster.", rich_help_panel=PANEL),
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
ImagesPerFile = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="At least so many rows in a Parquet file, which an interruption costs. [dim]\\[default: 100][/dim]",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Gpus = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="X",
        help="GPUs of one detector, and with --device cuda of one refining actor; by default 1 where there are any.",
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
    with Resumable(unit, "Looking for the cluster") as work:
        if not (address or os.environ.get("RAY_ADDRESS")):
            work.prepare(settings)  # Ray's processes find the machine code in Numba's cache then
            work.describe("Starting Ray")
        first = True

        def show(step: Progress) -> None:
            nonlocal first
            work.show(step, "Starting the stages" if first else count(step.objects, "object"))
            first = False

        report = run(show)
    return report, work.seconds
