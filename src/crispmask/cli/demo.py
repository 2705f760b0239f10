"""``crispmask demo``: the sample images, before and after."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crispmask.cli.console import PREPARING, complain, count, say, waiting
from crispmask.cli.segment import Overwrite

if TYPE_CHECKING:
    from crispmask.instances import Instances


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results.")] = Path(
        "crispmask-demo"
    ),
    overwrite: Overwrite = False,
) -> None:
    """See it work: find the objects in a few sample images and refine their masks.

    Writes what crispmask segment writes, and the images beside it.
    """
    with _step("Loading the embedded detector"):
        from crispmask.coco import CocoDataset, read_results, results_to_instances
        from crispmask.detectors import load_detector
        from crispmask.files import write_bytes
        from crispmask.pipeline import Settings, prepare, segment_folder
        from crispmask.samples import sample_images

        detector = load_detector()
    with _step(PREPARING):
        prepare(Settings())
    with _step(f"Segmenting {count(len(sample_images()), 'image')}"):
        images = [output / "images" / sample.name for sample in sample_images()]
        for sample, image in zip(sample_images(), images, strict=True):
            write_bytes(image, sample.read_bytes())
        report = segment_folder(images, output, detector, overwrite=overwrite)
    for failure in report.failures:
        complain(failure.reason)
    if report.failures:
        raise typer.Exit(1)
    results = [read_results(output / name) for name in ("results_before.json", "results.json")]
    for image_id, info in CocoDataset.from_file(output / "images.json").images.items():
        own = ([record for record in side if record["image_id"] == image_id] for side in results)
        before, after = (results_to_instances(side, *info.size) for side in own)
        say(f"  {info.file_name}: {_describe(before, after, detector.categories, report.settings.score)}")
    say("")
    say("Look at")
    for image in images:
        say(f"  {output / 'pictures' / image.name}", style="bold")
    say("Left the detector's masks, then the refined ones, then where they differ most.")
    say(f"The masks are in {output / 'results.json'}, the detector's own in results_before.json.")
    say("")
    say("Your own images:  crispmask segment IMAGES -o results")


@contextmanager
def _step(what: str) -> Iterator[None]:
    """Say what takes time, and then how long it took."""
    started = time.monotonic()
    with waiting(what):
        yield
    say(f"{what:<60} {time.monotonic() - started:5.1f} s")


def _describe(before: Instances, after: Instances, names: dict[int, str], score: float | None) -> str:
    """What was found, the surest first, and how much of the masks changed."""
    if not len(before):
        return f"nothing with a score of {score:.0%} or more"
    numbers = Counter(names[int(key)] for key in before.category_ids)
    found = ", ".join(f"1 {name}" if number == 1 else f"{number} x {name}" for name, number in numbers.items())
    changed = sum(int((before.mask(i) ^ after.mask(i)).sum()) for i in range(len(before)))
    pixels = sum(int(window.mask.sum()) for window in before.windows)
    return f"{found}; refinement moved {changed / max(pixels, 1):.1%} of the mask pixels"
