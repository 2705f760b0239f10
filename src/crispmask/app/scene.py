"""What the page knows of a photo: its objects and settings now, and those before, for undo."""

from __future__ import annotations

import io
import math
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.app.mattes import Matte
from crispmask.app.refiner import Refined, Refiner, Source
from crispmask.app.strokes import Paint
from crispmask.detectors import Selection, select
from crispmask.errors import DataError
from crispmask.image.scaling import resized
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.refinement import Params, default_params

SHOWN_PIXELS = 4_000_000
"""Larger photos are shown smaller; what is downloaded has the photo's own size."""

STEPS = 100
"""How many steps can be undone."""

MAX_OBJECTS = 200
"""Of one photo."""

MAX_BYTES = 400_000_000
"""Of the masks of one photo, with those of its earlier steps, of which the oldest are forgotten first."""

LONGEST_SIDE = 8192
"""Of the picture that is shown: browsers draw no larger ones everywhere."""

LEAST_SCORE = 0.1
"""Of the detector's finds that are looked through for what a click may mean."""

SMALL_PIXELS = 1_000_000
"""In larger photos, those finds are looked for at this size: their masks at full size would fill the memory."""

METHODS: dict[str, Callable[[], Params]] = {"learned": default_params, "fixed": CRFParams, "paper": CRFParams.paper}
"""The parameters by name: with the mask network, without it, and the published setting."""

_keys = count(1)


@dataclass(frozen=True, eq=False)
class Thing:
    """An object of a photo.

    Attributes:
        key: number that stays the same through all steps.
        label: what it is.
        category: its id.
        origin: "detector", "click", "box", "marks" or "mask".
        source: what its mask is made from.
        before: its mask before the refinement.
        refined: and after it.
        edge: position of the slider, from -1 (soft) to 1 (tight).
        paint: what was painted on it.
    """

    key: int
    label: str
    category: int
    origin: str
    source: Source
    before: Matte
    refined: Refined
    edge: float = 0.0
    paint: Paint | None = None

    def arrays(self) -> Iterable[NDArray[Any]]:
        """Everything large that it holds."""
        yield from (self.source.window.probabilities, self.before.alpha, self.refined.matte.alpha)
        if self.source.answer is not None:
            yield from (self.source.answer.prompt, self.source.answer.odds)
        if self.paint is not None:
            yield self.paint.signs


@dataclass(frozen=True, eq=False)
class Settings:
    """How the objects of a photo are found and refined.

    Attributes:
        method: a name of `METHODS`.
        values: the parameters that differ from the method's.
        score: lowest score of the detector's objects.
        classes: the only classes wanted; none: all.
        tiles: N for N x N tiles that the detector looks at too.
        edge: position of the slider for new objects.
    """

    method: str = "learned"
    values: Mapping[str, Any] = field(default_factory=dict)
    score: float = 0.5
    classes: tuple[str, ...] = ()
    tiles: int = 1
    edge: float = 0.0

    def params(self) -> Params:
        """The parameters of the slider's middle.

        Raises:
            ParamsError: an unknown parameter, or a value outside its range.
        """
        params: Params = METHODS[self.method]()
        if isinstance(params, CRFParams):
            return CRFParams.from_dict({**params.as_dict(), **self.values}, source="the page")
        return params.with_overrides(self.values, source="the page")


@dataclass(frozen=True, eq=False)
class Scene:
    """One step: the objects, the settings, and which of the detector's objects were deleted."""

    things: tuple[Thing, ...]
    settings: Settings
    deleted: frozenset[int] = frozenset()

    def thing(self, key: int) -> Thing:
        """The object of a key; DataError where there is none."""
        for thing in self.things:
            if thing.key == key:
                return thing
        raise DataError(f"there is no object {key}: it was deleted, or the step was undone")

    def replaced(self, things: Iterable[Thing]) -> Scene:
        """The same with new versions of some objects."""
        new = {thing.key: thing for thing in things}
        return replace(self, things=tuple(new.get(thing.key, thing) for thing in self.things))

    def added(self, thing: Thing) -> Scene:
        """The same with one more object.

        Raises:
            DataError: there are `MAX_OBJECTS`.
        """
        if len(self.things) >= MAX_OBJECTS:
            raise DataError(f"a photo can have {MAX_OBJECTS} objects here: delete some first")
        return replace(self, things=(*self.things, thing))

    def instances(self, size: tuple[int, int], only: int | None = None) -> Instances:
        """The objects, or one of them, as `Instances` of a photo of (H, W) pixels."""
        things = self.things if only is None else (self.thing(only),)
        if not things:
            return Instances.empty(size)
        boxes = [thing.source.box for thing in things]
        return Instances(
            size,
            np.array(boxes, np.float32),
            np.array([thing.source.score for thing in things], np.float32),
            np.array([thing.category for thing in things], np.int64),
            tuple(thing.refined.matte.window() for thing in things),
        )


class Photo:
    """An open photo.

    Args:
        image: uint8 (H, W, 3) RGB.
        name: of its file, as the visitor calls it.
        detector: finds the objects.
        refiner: refines them.
        settings: at first.
    """

    def __init__(
        self, image: NDArray[np.uint8], name: str, detector: Selection, refiner: Refiner, settings: Settings
    ) -> None:
        self.id, self.name = secrets.token_urlsafe(16), name
        self.image, self._detector, self._refiner = image, detector, refiner
        self.size = image.shape[0], image.shape[1]
        area = self.size[0] * self.size[1]
        self.shrink = max(1.0, math.sqrt(area / SHOWN_PIXELS), max(self.size) / LONGEST_SIDE)
        self.shown = _jpeg(image, self.shrink)
        self._small = resized(image, _fitting(self.size, math.sqrt(area / SMALL_PIXELS)))
        self._guesses: Instances | None = None
        self._found: tuple[tuple[int, float], Instances] | None = None
        self._detected: dict[tuple[Any, ...], tuple[int, Source, Matte]] = {}
        self._step: int | None = None
        self._history, self._at = [self.detected(Scene((), settings))], 0

    @property
    def scene(self) -> Scene:
        """The present step."""
        return self._history[self._at]

    @property
    def can_undo(self) -> bool:
        """Whether there is a step before."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether a step was undone."""
        return self._at + 1 < len(self._history)

    @property
    def bytes(self) -> int:
        """Memory that the photo takes."""
        finds = [found for found in (self._guesses, self._found and self._found[1]) if found]
        arrays = [self.image, self._small]
        arrays += [window.probabilities for found in finds for window in found.windows]
        for _, source, before in self._detected.values():
            arrays += [source.window.probabilities, before.alpha]
        arrays += [array for scene in self._history for thing in scene.things for array in thing.arrays()]
        return len(self.shown) + _bytes(arrays)

    def do(self, change: Callable[[Scene], Scene], step: int | None = None) -> None:
        """Take a step; with the number of the step before it, that one is replaced, as while a slider moves."""
        again = step is not None and step == self._step and self.can_undo
        scene = change(self._history[self._at - 1 if again else self._at])
        self._history = [*self._history[: self._at if again else self._at + 1], scene]
        while len(self._history) > 2 and (len(self._history) > STEPS + 1 or self._history_bytes() > MAX_BYTES):
            del self._history[0]
        self._at, self._step = len(self._history) - 1, step

    def undo(self) -> None:
        """Go one step back, where there is one."""
        self._at, self._step = max(0, self._at - 1), None

    def redo(self) -> None:
        """Take the step that was undone."""
        self._at, self._step = min(len(self._history) - 1, self._at + 1), None

    def close(self) -> None:
        """Forget what is kept elsewhere of the photo."""
        self._refiner.forget([thing.source for scene in self._history for thing in scene.things])

    def refined(self, things: Iterable[Thing], settings: Settings) -> list[Thing]:
        """Objects with new masks, for these settings and their own edges and paint."""
        todo = list(things)
        inputs = [(thing.source, thing.edge, thing.paint) for thing in todo]
        made = self._refiner.refine(self.image, inputs, settings.params())
        return [replace(thing, refined=refined) for thing, refined in zip(todo, made, strict=True)]

    def thing(self, settings: Settings, source: Source, origin: str, *, label: str, category: int = 1) -> Thing:
        """A new object."""
        before = Matte.of(source.window)
        bare = Thing(next(_keys), label, category, origin, source, before, Refined(before), settings.edge)
        return self.refined([bare], settings)[0]

    def guesses(self) -> Instances:
        """All that the detector takes for an object, by descending score, for a photo of at most `SMALL_PIXELS`."""
        if self._guesses is None:
            self._guesses = select(self._detector, score=LEAST_SCORE, tiles=1)(self._small)
        return self._guesses

    def found(self, tiles: int, score: float) -> Instances:
        """The detector's finds from a score on."""
        if tiles == 1 and score >= LEAST_SCORE and self._small is self.image:
            return self.guesses().above(score)  # once for both
        if self._found is None or self._found[0] != (tiles, score):
            detector = select(self._detector, score=score, tiles=tiles)
            self._found = (tiles, score), detector(self.image)
        return self._found[1]

    def label(self, category: int) -> str:
        """Name of a detector's category."""
        return self._detector.categories.get(category, f"class {category}")

    def _source(self, tiles: int, found: Instances, i: int) -> tuple[int, Source, Matte]:
        """Key, source and mask of a find, which are the same when it is found again."""
        x0, y0, x1, y1 = box = tuple(found.boxes[i].tolist())
        place = tiles, int(found.category_ids[i]), box
        if place not in self._detected:
            source = Source(found.windows[i], (x0, y0, x1, y1), float(found.scores[i]))
            self._detected[place] = next(_keys), source, Matte.of(source.window)
        return self._detected[place]

    def detected(self, scene: Scene) -> Scene:
        """The scene with the detector's objects that its settings ask for; those made by hand stay."""
        settings = scene.settings
        found = self.found(settings.tiles, settings.score)
        known = {thing.key: thing for thing in scene.things}
        kept: list[Thing] = []
        new: list[Thing] = []
        for i in range(len(found)):
            category, window = int(found.category_ids[i]), found.windows[i]
            wanted = not settings.classes or self.label(category) in settings.classes
            if not wanted or not window.mask.any():
                continue
            key, source, before = self._source(settings.tiles, found, i)
            if key in scene.deleted or len(kept) + len(new) >= MAX_OBJECTS:
                continue
            if key in known:
                kept.append(known[key])
            else:
                label = self.label(category)
                new.append(Thing(key, label, category, "detector", source, before, Refined(before), settings.edge))
        own = [thing for thing in scene.things if thing.origin != "detector"]
        made = self.refined(new, settings) if new else []
        things = sorted([*kept, *made], key=lambda thing: -thing.source.score)
        return replace(scene, things=tuple([*things, *own][:MAX_OBJECTS]))

    def _history_bytes(self) -> int:
        return _bytes(array for scene in self._history for thing in scene.things for array in thing.arrays())


def _bytes(arrays: Iterable[NDArray[Any]]) -> int:
    """Of all arrays, each counted once."""
    return sum({id(array): array.nbytes for array in arrays}.values())


def _fitting(size: tuple[int, int], shrink: float) -> tuple[int, int]:
    """(H, W) divided by `shrink`, where that is above 1; at least one pixel each."""
    return (max(1, round(size[0] / shrink)), max(1, round(size[1] / shrink))) if shrink > 1 else size


def _jpeg(image: NDArray[np.uint8], shrink: float) -> bytes:
    """The photo as the page shows it."""
    buffer = io.BytesIO()
    shown = resized(image, _fitting((image.shape[0], image.shape[1]), shrink))
    Image.fromarray(shown).save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()
