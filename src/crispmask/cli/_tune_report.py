"""What ``crispmask tune`` shows at the end: the scores, what to expect, and whether to use what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crispmask.cli.console import out, say

if TYPE_CHECKING:
    from crispmask.tuning.outcome import Outcome


def show_outcome(outcome: Outcome, method: str, output: Path, pictures: Sequence[Path]) -> None:
    """The table of scores, the recommendation, and the files in `output`."""
    _show_table(outcome)
    say(f"Best          {_words(outcome.best.values)}")
    held_out, unrefined, learned = (100 * outcome.mean(name) for name in ("held_out", "unrefined", "learned"))
    say(
        f"Expect        {held_out:.2f} %, {held_out - unrefined:+.2f} against no refinement, {held_out - learned:+.2f} "
        "against the learned parameters (the default): chosen without the images it is measured on"
    )
    if method == "tpe":
        say("              (TPE saw all images when it proposed its points: measure on other images)")
    say(f"Optimism      {100 * outcome.optimism:+.2f}: how much more the best point has on images that chose it")
    best = output / "best.toml"
    say(f"Parameters    {best}")
    say(f"All points    {output / 'scores.csv'}")
    say(f"Pictures      {', '.join(map(str, pictures)) or 'none: nothing varied'}")
    if outcome.recommended:
        say(f"Use it:       crispmask segment IMAGES --params {best} -o results")
        say(f"              crispmask refine RESULTS.json --images IMAGES --params {best} -o REFINED.json")
    else:
        say(
            "Keep the default: the learned parameters are at least as good as what was found, on images held out "
            f"{learned:.2f} % against {held_out:.2f} %."
        )


def _show_table(outcome: Outcome) -> None:
    from rich import box
    from rich.table import Table

    from crispmask.tuning.task import LABELS

    title = f"{LABELS[outcome.objective]}, %".replace("mask AP", "Mask AP")
    table = Table(box=box.SIMPLE_HEAD, title=title[:1].upper() + title[1:], title_style="bold", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in ("images", "unrefined", "learned", "start", "best"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("own choice", justify="right", no_wrap=True)
    table.add_column("which is", overflow="fold")

    def row(label: str, images: int | None, scores: Sequence[float], choice: dict[str, Any], **style: Any) -> None:
        texts = ["" if images is None else str(images), *map(_percent, scores)]
        table.add_row(label, *texts, *[""] * (6 - len(texts)), _choice(outcome, choice), **style)

    everything = [side.all for side in (outcome.unrefined, outcome.learned, outcome.start, outcome.best.scores)]
    row("all", outcome.images, everything, outcome.best.values, end_section=True)
    for k, fold in enumerate(outcome.folds):
        scores = [fold.unrefined, fold.learned, fold.start, fold.best, fold.held_out]
        row(f"fold {k + 1}", fold.images, scores, fold.chosen, end_section=k + 1 == len(outcome.folds))
    names = "unrefined", "learned", "start", "best", "held_out"
    row("mean of folds", None, [outcome.mean(name) for name in names], {})
    out.print(table)


def _choice(outcome: Outcome, values: dict[str, Any]) -> str:
    """The values of a point, or where they are too many, its number in the table of all points."""
    text = ", ".join(map(_short, values.values()))
    if len(text) <= 16:
        return text
    return f"point {[trial.values for trial in outcome.trials].index(values) + 1}"


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items()) or "the start: nothing was better"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"
