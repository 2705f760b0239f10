"""``crispmask learn``: the mask network, the CRF behind it and the gate, from annotated images."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crispmask.arguments import thread_count
from crispmask.cli.annotated import Annotations, Images, needs_torch, pair
from crispmask.cli.console import note, out, progress_bar, say, waiting
from crispmask.cli.crf import Threads
from crispmask.cli.options import options_from
from crispmask.errors import DataError
from crispmask.training.refiner.config import LearnConfig

if TYPE_CHECKING:
    from crispmask.training.refiner.gate import Outcome


@options_from(LearnConfig, "overrides", "Learning")
def learn(
    annotations: Annotations,
    images: Images,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the parameters.")],
    overrides: dict[str, Any],
    results: Annotated[
        list[Path] | None,
        typer.Option(
            "-r",
            "--results",
            metavar="R.json",
            help="What a detector found on them, as COCO results; as --images. A dash where there are none.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="Torch device for the training: cpu, cuda.")] = "cpu",
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Processes that make prompts.")] = 1,
    threads: Threads = None,
) -> None:
    """Learn how to refine masks from annotated images (extra 'torch').

    Trains the mask network on prompts that are made from the annotations on the fly: masks with the errors of detectors
    and annotators, boxes, scribbles, and with --results the masks of your own detector. On images that the training did
    not see, the CRF behind the network is tuned, and a gate learns which masks had better be left alone. With
    --no-training only these two are learned, for the network that --init names.

    Writes params.toml and network.onnx beside it, which crispmask segment takes as its --params, report.json and
    curves.png. A run that was interrupted goes on where it stopped.
    """
    if results and len(results) != len(annotations):
        raise DataError(f"{len(annotations)} annotation files and {len(results)} results were given: give one for each")
    given = results or [Path("-")] * len(annotations)
    pairs = zip(pair(annotations, images), (None if str(r) == "-" else r for r in given), strict=True)
    config = dataclasses.replace(LearnConfig(), **overrides)
    with waiting("Loading"), needs_torch():
        import sklearn  # noqa: F401 - before the work, tell whether it is there

        from crispmask.training.refiner.objects import Source
        from crispmask.training.refiner.run import learn as run
    begun = time.monotonic()
    with progress_bar("prompt") as progress:
        task, current = progress.add_task("Reading the annotations", total=None), ""

        def show(what: str, done: int, total: int) -> None:
            nonlocal current
            words = what.partition(":")[0]
            if words != current:  # a new part of the work has a rate of its own
                current = words
                unit = "prompt" if words == "Training" else "image"
                progress.reset(task, total=total or None, completed=max(0, done - 1), unit=unit)
            progress.update(task, completed=done, description=what)

        try:
            made = run(
                [Source(a, i, r) for (a, i), r in pairs],
                output,
                config,
                device=device,
                workers=workers,
                threads=thread_count(threads),
                on_progress=show,
            )
        except KeyboardInterrupt:
            note("Interrupted: the same command goes on from here.")
            raise
    out.print(_table(made.gates.outcomes))
    changes = ", ".join(f"{name} {value}" for name, value in made.tried[0].changes().items())
    say(
        f"Boxes       masks made from exact ones have IoU {100 * made.boxes[0]:.1f} and boundary IoU "
        f"{100 * made.boxes[1]:.1f}"
    )
    say(f"CRF         {changes or 'the default setting'}")
    say(f"Parameters  {made.path}  ({time.monotonic() - begun:.0f} s)")
    say(f"Try them:   crispmask segment PHOTOS --params {made.path} -o results")


def _table(outcomes: tuple[Outcome, ...]) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    title = "Masks that the gates were not learned from (folds): percent, and change"
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("masks", no_wrap=True)
    for heading in ("number", "kept", "near", "IoU", "boundary", "worse"):
        table.add_column(heading, justify="right", no_wrap=True)

    def change(before: float, after: float) -> str:
        return f"{100 * before:.1f} {100 * (after - before):+.1f}"

    for o in outcomes:
        table.add_row(
            o.kind.replace("probabilities", "soft"),
            str(o.masks),
            str(o.kept),
            str(o.near),
            change(o.before[0], o.after[0]),
            change(o.before[1], o.after[1]),
            f"{100 * o.worse:.0f} %",
        )
    return table
