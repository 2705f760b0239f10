"""``crispmask learn``: parameters as functions of the instance, from annotated photos."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crispmask.cli.annotated import Annotations, Images, needs_torch, pair
from crispmask.cli.console import note, out, progress_bar, say, waiting
from crispmask.cli.crf import Threads
from crispmask.cli.options import options_from
from crispmask.errors import DataError
from crispmask.training.refiner.config import LearnConfig

if TYPE_CHECKING:
    from crispmask.training.refiner.select import Outcome


@options_from(LearnConfig, "overrides", "Learning")
def learn(
    annotations: Annotations,
    images: Images,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the parameters.")],
    overrides: dict[str, Any],
    results: Annotated[
        list[Path] | None,
        typer.Option(
            "-r", "--results", metavar="R.json", help="What a detector found on them, as COCO results; as --images."
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Detector to run on the photos: 'embedded' (people), or an ONNX file."),
    ] = None,
    threads: Threads = None,
) -> None:
    """Learn how to refine masks from annotated photos.

    Learns which CRF parameters help which mask, when a mask had better be left alone and, with the extra 'torch', a
    small network that corrects masks before the CRF. The masks are a detector's, from --results or from running
    --detector, and the annotated objects made coarse in the ways in which detectors and annotators err; these alone
    where neither is given.

    Writes params.toml (and the network beside it), which crispmask segment takes as its --params, and report.json. A
    run that was interrupted goes on where it stopped.
    """
    from os import cpu_count

    if results and len(results) != len(annotations):
        raise DataError(f"{len(annotations)} annotation files and {len(results)} results were given: give one for each")
    found: list[Path | None] = [*results] if results else [None] * len(annotations)
    sources = [(a, i, r) for (a, i), r in zip(pair(annotations, images), found, strict=True)]
    config = dataclasses.replace(LearnConfig(), **overrides)
    count = threads or cpu_count() or 1
    with waiting("Loading"):
        from crispmask.training.refiner.run import learn as run

        if config.network:
            with needs_torch():
                import crispmask.training.refiner.fit  # noqa: F401 - tells before the work whether torch is there
        loaded = None
        if detector is not None:
            from crispmask.detectors import load_detector

            loaded = load_detector(detector, threads=1)
    started = time.monotonic()
    with progress_bar("step") as progress:
        task = progress.add_task("Reading the annotations", total=None)
        current = ""

        def show(what: str, done: int, total: int) -> None:
            nonlocal current
            words = what.partition(":")[0]
            if words != current:  # a new part of the work has a rate of its own
                current = words
                progress.reset(task, total=total, completed=max(0, done - 1))
            progress.update(task, completed=done, description=what)

        try:
            made = run(sources, output, config, detector=loaded, threads=count, on_progress=show)
        except KeyboardInterrupt:
            note("Interrupted: the same command goes on from here.")
            raise
    out.print(_table(made.choice.outcomes))
    say(f"Parameters  {made.path}  ({time.monotonic() - started:.0f} s)")
    say(f"Try them:   crispmask segment PHOTOS --params {made.path} -o results")


def _table(outcomes: tuple[Outcome, ...]) -> Any:
    from rich.table import Table

    table = Table(title="Masks of photos that neither the rules nor the network learnt from, in percent")
    table.add_column("masks", overflow="fold")
    for heading in ("number", "left alone", "IoU", "boundary IoU", "best choice"):
        table.add_column(heading, justify="right", no_wrap=True)

    def change(before: float, after: float) -> str:
        return f"{100 * before:.1f} → {100 * after:.1f}"

    for o in outcomes:
        table.add_row(
            o.kind,
            str(o.masks),
            str(o.kept),
            change(o.before[0], o.after[0]),
            change(o.before[1], o.after[1]),
            f"{100 * o.best[0]:.1f} / {100 * o.best[1]:.1f}",
        )
    return table
