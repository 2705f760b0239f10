"""How a run that can be interrupted is shown: what was done before, the progress bar, and the seconds that it took."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from crispmask.cli.console import PREPARING, count, note, progress_bar

if TYPE_CHECKING:
    from crispmask.pipeline import Progress, Settings


class Resumable:
    """The progress bar of a run that can continue an interrupted one.

    Args:
        unit: what is counted, in the singular.
        first: what is done before the work begins.
    """

    def __init__(self, unit: str, first: str) -> None:
        self.unit = unit
        self._bar = progress_bar(unit)
        self._task = self._bar.add_task(first, total=None)
        self._begun = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the work began, without the compilation and without an earlier run."""
        return time.monotonic() - self._begun

    def describe(self, what: str) -> None:
        """Say what is being done."""
        self._bar.update(self._task, description=what)

    def prepare(self, settings: Settings) -> None:
        """Compile what the work needs."""
        from crispmask.pipeline import prepare

        if settings.refine:
            self.describe(PREPARING)
            prepare(settings)

    def show(self, step: Progress, doing: str, settings: Settings | None = None) -> None:
        """Show progress; at the first call also say what an earlier run did, and compile what `settings` need."""
        if self._begun:
            self._bar.update(self._task, completed=step.done, description=doing)
            return
        if step.resumed:
            done = f"{step.resumed} of {count(step.total, self.unit)}"
            note(f"Continuing an interrupted run, which had finished {done}.")
        if settings is not None and step.done < step.total:
            self.prepare(settings)
        self._begun = time.monotonic()
        self._bar.reset(self._task, total=step.total, completed=step.done, description=doing)

    def __enter__(self) -> Resumable:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.stop()
        if kind is KeyboardInterrupt:
            note("Interrupted: the same command continues from here.")
