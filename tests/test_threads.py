"""Pools of threads that nobody waits for, and the generators that own one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import sleep

import pytest

from crispmask.crf import run_batch
from crispmask.pipeline import folder
from crispmask.threads import interruptible_pool


@pytest.fixture
def never() -> Iterator[Event]:
    """Set when the test is over."""
    event = Event()
    yield event
    event.set()


def test_leaving_waits_for_no_thread(never: Event) -> None:
    with interruptible_pool(1) as pool:
        running, waiting = pool.submit(never.wait, 60), pool.submit(never.wait, 60)
        while not running.running():
            sleep(0.01)
    assert waiting.cancelled()
    assert not running.done()
    never.set()
    assert running.result()


def test_images_that_are_read_ahead(never: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that fails leaves its reading behind; whatever thread Python then closes it in must not wait."""
    read, begun = [], Event()

    def read_frame(file: Path) -> None:
        if file.name == "b":
            begun.set()
            never.wait(60)
        read.append(file.name)

    monkeypatch.setattr(folder, "read_frame", read_frame)
    reading = folder._read_ahead([Path("a"), Path("b"), Path("c")], 2)
    next(reading).result()
    assert begun.wait(60)
    reading.close()
    assert read == ["a"]


def test_a_batch_that_is_abandoned(never: Event) -> None:
    class Image:
        def __init__(self, slow: bool) -> None:
            self.slow, self.finished = slow, False

        def run(self, iterations: int) -> int:
            if self.slow:
                never.wait(60)
            self.finished = True
            return iterations

    images = [Image(False), Image(True), Image(True)]
    running = run_batch(images, 3, threads=2)
    assert next(running) == 3
    running.close()
    assert [image.finished for image in images] == [True, False, False]
