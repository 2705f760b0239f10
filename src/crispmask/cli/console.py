"""What the verbs print: results on stdout, progress and errors on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.status import Status
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

PREPARING = "Compiling the CRF; the first time takes up to a minute"


def say(text: str, style: str | None = None) -> None:
    """A line on stdout, neither wrapped nor searched for markup."""
    out.print(text, style=style, soft_wrap=True, markup=False)


def complain(sentence: str) -> None:
    """``Error: sentence`` on stderr."""
    line = " ".join(str(sentence).split())
    err.print(Text.assemble(("Error: ", "bold red"), line), soft_wrap=True)


def note(text: str) -> None:
    """A line on stderr, above the progress bar."""
    err.print(text, soft_wrap=True, markup=False)


def count(n: int, thing: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def prose(verb: Callable[..., object]) -> str:
    """A verb's docstring as its help.

    Typer keeps the line breaks of a docstring's later paragraphs; without them it wraps at the terminal's width.
    """
    return "\n\n".join(" ".join(part.split()) for part in (verb.__doc__ or "").split("\n\n"))


@contextmanager
def waiting(what: str) -> Iterator[Status]:
    """A spinner on stderr while something takes its time; nothing where stderr is not a terminal."""
    with err.status(f"{what} ...") as status:
        yield status


class RateColumn(ProgressColumn):
    """Work done per second, or seconds per piece where that is the larger number.

    Args:
        unit: what is counted; a task may have its own in the field ``unit``.
    """

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        unit = task.fields.get("unit", self.unit)
        return Text(f"{speed:.1f} {unit}s/s" if speed >= 1 else f"{1 / speed:.1f} s/{unit}", style="cyan")


def progress_bar(unit: str) -> Progress:
    """A bar with count, rate and remaining time on stderr; nothing where stderr is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        RateColumn(unit),
        TimeRemainingColumn(compact=True),
        console=err,
        disable=not err.is_terminal,
        expand=True,
        speed_estimate_period=60,
    )
