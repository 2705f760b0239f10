"""``crispmask models``: the detectors that have a name, and their weights on this machine."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from crispmask.cli.console import err, out, say, waiting
from crispmask.detectors.files import EMBEDDED_LICENCE, EMBEDDED_MASK_AP, embedded_model_path
from crispmask.detectors.weights import COCO_CLASSES, LICENCE, MIRROR, NAMES, WEIGHTS, cached_path
from crispmask.detectors.weights import pull as fetch

models = typer.Typer(name="models", help="List the detectors, and fetch their weights.", no_args_is_help=True)


@models.command("list")
def list_models() -> None:
    """List the detectors that have a name, and whether their weights are on this machine."""
    paths = {name: cached_path(weights) for name, weights in WEIGHTS.items()}
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "mask AP", "size", "licence", "weights"):
        table.add_column(heading)
    size = embedded_model_path().stat().st_size / 1e6
    table.add_row("embedded", f"{EMBEDDED_MASK_AP}", f"{size:.0f} MB", EMBEDDED_LICENCE, "in the package")
    for name, weights in WEIGHTS.items():
        there = "on this machine" if paths[name].is_file() else "not fetched yet"
        table.add_row(name, f"{weights.mask_ap}", f"{weights.megabytes:.0f} MB", LICENCE, there)
    out.print(table)
    say(f"\nEach finds COCO's {COCO_CLASSES} classes. Mask AP in percent, before refinement: of embedded (NanoDet, a")
    say("mask branch) on 200 images of COCO val2017; of the others (Mask R-CNN) on all, as torchvision states it.")
    # Each path and command is a line of its own, which is never wrapped, so that it can be copied.
    here = {name: path for name, path in paths.items() if path.is_file()}
    if here:
        say("\nFiles of the weights on this machine:")
    for path in here.values():
        say(f"  {path}")
    if len(here) < len(paths):
        say("\nWeights are fetched when a detector is first used. To fetch them now:")
    for name in [name for name in paths if name not in here]:
        say(f"  crispmask models pull {name}")


@models.command("classes")
def list_classes(
    detector: Annotated[
        str, typer.Argument(metavar="[NAME|FILE]", help="As for segment.", show_default="embedded")
    ] = "embedded",
) -> None:
    """List the classes that a detector finds, each with its category id, as --classes takes them."""
    ensure_weights(detector)
    with waiting("Loading the detector"):
        from crispmask.detectors import load_detector

        categories = load_detector(detector).categories
    for key, name in categories.items():
        say(f"{key:>4}  {name}")


@models.command("pull", no_args_is_help=True)
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help=f"Which: {', '.join(NAMES)}.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE|DIR|URL",
            help="A local copy of the file, or a folder or address that holds it; by default the address in "
            f"{MIRROR}, or torchvision's own.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch a detector's weights into torch's cache, for use without a network.

    The hash of the file is checked. Weights that are in the cache are checked, and fetched again only if they are
    damaged. The environment variable TORCH_HOME moves the cache.
    """
    for name in names:
        say(f"{name}  {_with_bar(name, source)}")


def ensure_weights(detector: str) -> None:
    """Fetch the weights of a detector, with a progress bar, if it is one of `NAMES` and they are not in the cache."""
    if detector in NAMES and not cached_path(WEIGHTS[detector]).is_file():
        _with_bar(detector, None)


def _with_bar(name: str, source: str | None) -> os.PathLike[str]:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=err,
        disable=not err.is_terminal,
        expand=True,
    ) as bar:
        task = bar.add_task(f"Fetching {name}", total=None)
        return fetch(name, source, lambda done, total: bar.update(task, completed=done, total=total))
