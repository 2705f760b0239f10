"""What the network and the CRF do to masks whose objects are annotated: the evidence for the setting and the gate."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.coco.rle import mask_to_rle
from crispmask.errors import DataError
from crispmask.evaluation.overlap import overlaps
from crispmask.files import write_bytes
from crispmask.instances import Instances, Window
from crispmask.params import CRFParams
from crispmask.refinement import LearnedParams
from crispmask.refinement.answer import Answer
from crispmask.refinement.crops import Crop
from crispmask.refinement.features import instance_features
from crispmask.refinement.instance import InstanceView
from crispmask.refinement.prompts import from_boxes
from crispmask.refinement.reach import reach_of
from crispmask.refinement.solve import Lattices, solve
from crispmask.refinement.windows import Rect
from crispmask.structured import parse_json
from crispmask.training.refiner.errors import KINDS
from crispmask.training.refiner.objects import AnnotatedObject, SourceImage, chances, decode

ANNOTATION, DETECTOR, BOX = "annotation", "detector", "box"
"""Kinds of masks that are not made with errors: the annotation itself, what a detector found, what its box makes."""

PROBABILITIES = "probabilities"
"""What is added to the name of a kind whose masks have them."""

LEAST_SIDE = 24
"""Square root of the area of a box, pixels: on smaller objects a grid is finer than the pixels."""

_DETECTIONS = 2  # of an object, the surest
_CELLS = (256, 384)  # of the crop on which errors are made: the smallest that does not shrink it, or the largest


@dataclass(frozen=True)
class Setting:
    """The CRF behind the network, and how the network's log-odds become its unary.

    Attributes:
        crf: of the CRF.
        temperature: what the log-odds are divided by.
        reach: how far the outline may move, as in `LearnedParams`; None: by any number of pixels.
    """

    crf: CRFParams
    temperature: float = 1.0
    reach: float | None = None


@dataclass(frozen=True)
class Measured:
    """A mask before and after.

    Attributes:
        kind: what made it.
        image: number of its image.
        source: number of the set that the image is of.
        features: what the gate sees of it.
        before: its IoU and boundary IoU with the annotated object.
        after: the same of each setting's result.
    """

    kind: str
    image: int
    source: int
    features: tuple[float, ...]
    before: tuple[float, float]
    after: tuple[tuple[float, float], ...]


Work = Callable[[NDArray[np.uint8], AnnotatedObject, np.random.Generator], list[Measured]]


def chosen(objects: Sequence[AnnotatedObject], count: int, seed: int) -> list[AnnotatedObject]:
    """At most `count` objects that are large enough, of every source some, in the order of their images."""
    large = [one for one in objects if _scale(one.box) >= LEAST_SIDE]
    if len(large) <= count:
        return large
    rng = np.random.default_rng((seed, count))
    return [large[i] for i in sorted(rng.choice(len(large), count, replace=False, p=chances(large)))]


def measure(
    objects: Sequence[AnnotatedObject],
    work: Work,
    seed: int,
    *,
    journal: Path | None = None,
    threads: int = 1,
    on_image: Callable[[int, int], None] | None = None,
) -> list[Measured]:
    """`work` on every object; the result does not depend on the number of threads.

    Args:
        objects: what is measured.
        work: `masks_after` or `boxes_after` with its settings.
        seed: of the errors.
        journal: file of what is measured already, image by image, from which an interrupted run goes on.
        threads: over the images.
        on_image: called with the number of images that are done and of all.
    """
    by_image: dict[SourceImage, list[AnnotatedObject]] = defaultdict(list)
    for one in objects:
        by_image[one.image].append(one)
    known = _read(journal) if journal else {}
    lock, done = Lock(), len(known)

    def step(image: SourceImage) -> list[Measured]:
        nonlocal done
        if image.number in known:
            return known[image.number]
        pixels = image.read()
        made = []
        for k, one in enumerate(by_image[image]):
            made += work(pixels, one, np.random.default_rng((seed, image.number, k)))
        with lock:
            if journal:
                with journal.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"image": image.number, "masks": [asdict(m) for m in made]}) + "\n")
            done += 1
            if on_image:
                on_image(done, len(by_image))
        return made

    with ThreadPoolExecutor(threads) as pool:
        return [one for part in pool.map(step, by_image) for one in part]


def masks_after(params: LearnedParams, settings: Sequence[Setting]) -> Work:
    """Masks of an object of several kinds, after the network and the CRF with each of the settings."""

    def work(image: NDArray[np.uint8], one: AnnotatedObject, rng: np.random.Generator) -> list[Measured]:
        made = []
        for kind, window in _masks(image, one, rng):
            if window.mask.any():
                view = InstanceView(image, window, window.mask_box)
                answer = params.answer(view)
                before = _overlaps(window, one)
                after = tuple(_overlaps(w, one) if w else before for w in _refined(view, answer, settings))
                features = tuple(instance_features(view, answer).tolist())
                made.append(Measured(kind, one.image.number, one.image.source, features, before, after))
        return made

    return work


def boxes_after(params: LearnedParams, setting: Setting, passes: Sequence[int]) -> Work:
    """What the box of an object becomes, after each number of passes of the network and the CRF."""

    def work(image: NDArray[np.uint8], one: AnnotatedObject, rng: np.random.Generator) -> list[Measured]:
        instances = from_boxes(one.box, one.image.size)
        view = InstanceView.of(image, instances, 0, from_box=True)
        before = _overlaps(instances.windows[0], one)
        after = []
        for count in passes:
            answer = replace(params, box_passes=count).answer(view)
            (window,) = _refined(view, answer, [setting])
            after.append(_overlaps(window, one) if window else before)
        return [Measured(BOX, one.image.number, one.image.source, (), before, tuple(after))]

    return work


def _masks(image: NDArray[np.uint8], one: AnnotatedObject, rng: np.random.Generator) -> Iterator[tuple[str, Window]]:
    """Kind and window of masks to refine: some made with errors, the annotation, and what a detector found."""
    exact = decode([one.rle], one.image.size)
    around = Crop.around(one.box)
    crop = replace(around, size=next((cells for cells in _CELLS if cells >= around.side), _CELLS[-1]))
    rect = crop.rect(one.image.size)

    def view(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
        return crop.mask(Window(mask.astype(np.float32), 0, 0), one.image.size)

    truth, others, rgb = view(exact), view(decode(one.others, one.image.size)), crop.image(image)
    for kind, (make, probable) in KINDS.items():
        prompt = np.clip(make(truth, others, rgb, rng), 0, 1).astype(np.float32)
        full = np.clip(crop.back(prompt, rect, rect.shape), 0, 1)
        yield kind, Window((full > 0.5).astype(np.float32), rect.y0, rect.x0)
        if probable:
            yield f"{kind}, {PROBABILITIES}", Window(full, rect.y0, rect.x0)
    yield ANNOTATION, _window(exact)
    for rle, _ in sorted(one.found, key=lambda found: -found[1])[:_DETECTIONS]:
        yield DETECTOR, _window(decode([rle], one.image.size))


def _window(mask: NDArray[np.uint8]) -> Window:
    return Instances.from_masks(mask.astype(bool)).windows[0]


def _refined(view: InstanceView, answer: Answer, settings: Sequence[Setting]) -> list[Window | None]:
    """The result of each setting; None where nothing is left of the object."""
    if not answer.mask.any():
        return [None] * len(settings)
    lattices: dict[Rect, Lattices] = defaultdict(dict)
    made: list[Window | None] = []
    for setting in settings:
        unary = answer.unary(view.image_size, setting.crf, setting.temperature)
        if setting.reach is not None:
            reach = reach_of(view.window, setting.reach)
            if reach == 0:
                made.append(view.window)
                continue
            unary = unary.within_reach(view.window, reach)
        made += solve(view.image, [unary], lattices=lattices[unary.rect])
    return made


def _overlaps(window: Window, one: AnnotatedObject) -> tuple[float, float]:
    """IoU and boundary IoU with the annotated object."""
    mask = np.zeros(one.image.size, bool)
    mask[window.y : window.y + window.height, window.x : window.x + window.width] = window.mask
    return overlaps(mask_to_rle(mask), one.rle, *one.image.size)


def _scale(box: Sequence[float]) -> float:
    x0, y0, x1, y1 = box
    return float(np.sqrt(max(0.0, (x1 - x0) * (y1 - y0))))


def _read(journal: Path) -> dict[int, list[Measured]]:
    """What a journal holds, by image; a last line that was cut short is removed from the file."""
    if not journal.exists():
        return {}
    lines = journal.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
        write_bytes(journal, b"".join(lines))
    known = {}
    for k, line in enumerate(lines, start=1):
        try:
            entry = parse_json(line, journal)
            known[int(entry["image"])] = [_measured(**mask) for mask in entry["masks"]]
        except (ValueError, LookupError, TypeError, OverflowError):
            raise DataError(f"{journal} is damaged in line {k}: remove it, and the images are measured anew") from None
    return known


def _measured(*, features: Sequence[float], before: Sequence[float], after: Any, **rest: Any) -> Measured:
    """What a line of the journal says of a mask."""
    first, second = before
    return Measured(features=tuple(features), before=(first, second), after=tuple((a, b) for a, b in after), **rest)
