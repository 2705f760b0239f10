"""``crispmask demo``: the two sample photos, before and after."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crispmask.cli.console import say, waiting
from crispmask.params import DEFAULT_SCORE

if TYPE_CHECKING:
    from crispmask.instances import Instances


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the pictures.")] = Path(
        "crispmask-demo"
    ),
) -> None:
    """See it work: find the people in two sample photos and refine their masks."""
    with _step("Loading the embedded detector"):
        from crispmask.detectors import load_detector
        from crispmask.image import read_image
        from crispmask.pipeline import Settings, prepare, process, write_picture
        from crispmask.samples import sample_photos

        detector = load_detector()
    with _step("Compiling the CRF; the first time takes up to a minute"):
        prepare(Settings())
    written = []
    for photo in sample_photos():
        with _step(f"Segmenting {photo.name}"):
            image = read_image(photo)
            before, after = process(image, detector)
            written.append(output / "pictures" / f"{photo.stem}.png")
            write_picture(written[-1], image, before, after)
        say(f"  {_describe(before, after, detector.categories)}")
    say("")
    say("Look at")
    for path in written:
        say(f"  {path}", style="bold")
    say("Left the detector's masks, then the refined ones, then where they differ most.")
    say("")
    say("Your own photos:  crispmask segment PHOTOS -o results")


@contextmanager
def _step(what: str) -> Iterator[None]:
    """Say what takes time, and then how long it took."""
    started = time.monotonic()
    with waiting(what):
        yield
    say(f"{what:<60} {time.monotonic() - started:5.1f} s")


def _describe(before: Instances, after: Instances, names: dict[int, str]) -> str:
    """What was found, and how much of the masks changed."""
    if not len(before):
        return f"found nothing with a score of {DEFAULT_SCORE:.0%} or more"
    found = ", ".join(f"{names[int(c)]} ({s:.0%})" for c, s in zip(before.category_ids, before.scores, strict=True))
    changed = sum(int((before.mask(i) ^ after.mask(i)).sum()) for i in range(len(before)))
    pixels = sum(int(window.mask.sum()) for window in before.windows)
    return f"found {found}; refinement moved {changed / max(pixels, 1):.1%} of the mask pixels"
