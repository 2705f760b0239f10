"""What the page asks of an open photo, as JSON: checked, and carried out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.app import prompts
from crispmask.app.http import MOST_TILES
from crispmask.app.refiner import Source
from crispmask.app.scene import METHODS, Photo, Scene, Thing
from crispmask.app.strokes import Stroke, painted
from crispmask.errors import DataError

MAX_POINTS = 20_000
"""Of all strokes of a request."""

Request = Mapping[str, Any]


def edit(photo: Photo, request: object) -> int | None:
    """Carry out a request.

    Args:
        photo: the photo.
        request: a JSON object, ``do`` names a function of `EDITS`; see there for the other fields. ``step`` may number
            the step: a later request with the same number replaces it.

    Returns:
        The key of an object that was made.

    Raises:
        DataError: a request that is not understood.
        CrispmaskError: one that cannot be carried out; the photo stays as it is.
    """
    if not isinstance(request, dict):
        raise DataError("the request must be a JSON object")
    name = request.get("do")
    found = EDITS.get(name) if isinstance(name, str) else None
    if found is None:
        raise DataError(f"do must be one of {', '.join(EDITS)}")
    return found(photo, request)


def add_mask(photo: Photo, mask: NDArray[np.uint8]) -> int:
    """Add an uploaded mask: uint8 (H, W, 3), white on black."""
    return _add(photo, prompts.from_mask(photo, mask), "mask", "your mask")


def _detection(photo: Photo, request: Request) -> None:
    """Find objects again: ``score``, ``classes`` (names; none: all) and ``tiles``."""
    classes = request.get("classes", [])
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError("classes must be a list of names")
    score = _number(request, "score", 0, 1)
    tiles = int(_number(request, "tiles", 1, MOST_TILES))

    def change(scene: Scene) -> Scene:
        settings = replace(scene.settings, score=score, classes=tuple(classes), tiles=tiles)
        return photo.detected(replace(scene, settings=settings))

    photo.do(change, _step(request))


def _edge(photo: Photo, request: Request) -> None:
    """Move the slider: ``edge`` from -1 to 1, for one ``object`` or, without it, for all and those to come."""
    edge = _number(request, "edge", -1, 1)
    key = _key(request, needed=False)

    def change(scene: Scene) -> Scene:
        settings = scene.settings if key is not None else replace(scene.settings, edge=edge)
        things = scene.things if key is None else (scene.thing(key),)
        made = photo.refined([replace(thing, edge=edge) for thing in things], settings)
        return replace(scene, settings=settings).replaced(made)

    photo.do(change, _step(request))


def _params(photo: Photo, request: Request) -> None:
    """Change the parameters behind the slider: ``method``, and ``values`` by name."""
    method, values = request.get("method"), request.get("values", {})
    if not isinstance(method, str) or method not in METHODS:
        raise DataError(f"method must be one of {', '.join(METHODS)}")
    if not isinstance(values, dict):
        raise DataError("values must be an object of parameter names and values")

    def change(scene: Scene) -> Scene:
        settings = replace(scene.settings, method=method, values=dict(values))
        return replace(scene, settings=settings).replaced(photo.refined(scene.things, settings))

    photo.do(change, _step(request))


def _click(photo: Photo, request: Request) -> int:
    """Make an object from the pixel ``at`` [x, y]."""
    x, y = _numbers(request, "at", 2)
    source, label, category = prompts.at_click(photo, x, y)
    return _add(photo, source, "click", label, category)


def _box(photo: Photo, request: Request) -> int:
    """Make an object from a ``box`` [x0, y0, x1, y1]."""
    x0, y0, x1, y1 = _numbers(request, "box", 4)
    box = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
    return _add(photo, prompts.in_box(photo, box), "box", "object")


def _marks(photo: Photo, request: Request) -> int:
    """Make an object from marks: ``inside`` and ``outside`` are lists of strokes, all of them each time."""
    inside, outside = _strokes(request, "inside"), _strokes(request, "outside")
    if not inside:
        raise DataError("mark some of the object too, in green")
    if not outside:
        raise DataError("mark some of the background too, in red")
    return _add(photo, prompts.between_marks(photo, inside, outside), "marks", "object", step=_step(request))


def _paint(photo: Photo, request: Request) -> None:
    """Add to an ``object`` what ``strokes`` cover, or erase it from there where ``add`` is false."""
    key, strokes, add = _key(request), _strokes(request, "strokes"), request.get("add")
    if not isinstance(add, bool):
        raise DataError("add must be true or false")

    def change(scene: Scene) -> Scene:
        thing = scene.thing(key)
        thing = replace(thing, paint=painted(thing.paint, strokes, add, photo.size))
        (made,) = photo.refined([thing], scene.settings)
        if made.refined.matte.empty:
            raise DataError("nothing would be left of the object: delete it instead")
        return scene.replaced([made])

    photo.do(change, _step(request))


def _delete(photo: Photo, request: Request) -> None:
    """Delete an ``object``."""
    key = _key(request)

    def change(scene: Scene) -> Scene:
        gone = scene.thing(key)
        left = tuple(thing for thing in scene.things if thing is not gone)
        return replace(scene, things=left, deleted=scene.deleted | {key})

    photo.do(change)


def _undo(photo: Photo, request: Request) -> None:
    """Go a step back."""
    photo.undo()


def _redo(photo: Photo, request: Request) -> None:
    """Take a step again that was undone."""
    photo.redo()


EDITS: dict[str, Callable[[Photo, Request], int | None]] = {
    "detect": _detection,
    "edge": _edge,
    "params": _params,
    "click": _click,
    "box": _box,
    "marks": _marks,
    "paint": _paint,
    "delete": _delete,
    "undo": _undo,
    "redo": _redo,
}


def _add(photo: Photo, source: Source, origin: str, label: str, category: int = 1, step: int | None = None) -> int:
    made: list[Thing] = []

    def change(scene: Scene) -> Scene:
        thing = photo.thing(scene.settings, source, origin, label=label, category=category)
        if thing.refined.matte.empty:
            raise DataError("no object is seen there: mark it, or draw another box")
        made.append(thing)
        return scene.added(thing)

    photo.do(change, step)
    return made[0].key


def _step(request: Request) -> int | None:
    step = request.get("step")
    if step is not None and not (isinstance(step, int) and not isinstance(step, bool)):
        raise DataError("step must be a whole number")
    return step


def _key(request: Request, needed: bool = True) -> Any:
    """The number of an object; with `needed` false, it may be left out."""
    key = request.get("object")
    if key is None and not needed:
        return None
    if not isinstance(key, int) or isinstance(key, bool):
        raise DataError("object must be the number of an object")
    return key


def _number(request: Request, name: str, low: float, high: float) -> float:
    value = request.get(name)
    if not _is_number(value) or not low <= value <= high:  # type: ignore[operator]
        raise DataError(f"{name} must be a number from {low} to {high}")
    return float(value)  # type: ignore[arg-type]


def _numbers(request: Request, name: str, count: int) -> list[float]:
    values = request.get(name)
    if not isinstance(values, list) or len(values) != count or not all(_is_number(v) for v in values):
        raise DataError(f"{name} must be {count} numbers")
    return [float(v) for v in values]


def _strokes(request: Request, name: str) -> list[Stroke]:
    """Strokes: objects with a ``radius`` and ``points`` [[x, y], ...]."""
    items = request.get(name)
    wrong = DataError(f"{name} must be a list of strokes, each with a radius up to 2000 and points [x, y], in pixels")
    if not isinstance(items, list):
        raise wrong
    strokes, total = [], 0
    for item in items:
        radius, points = (item.get("radius"), item.get("points")) if isinstance(item, dict) else (None, None)
        if not _is_number(radius) or not 0 < radius <= 2000 or not isinstance(points, list) or not points:  # type: ignore[operator]
            raise wrong
        if not all(_is_point(point) for point in points):
            raise wrong
        total += len(points)
        strokes.append(Stroke(tuple((float(x), float(y)) for x, y in points), float(radius)))  # type: ignore[arg-type]
    if total > MAX_POINTS:
        raise DataError(f"the strokes have {total} points, more than {MAX_POINTS}: draw them one after the other")
    return strokes


def _is_point(point: object) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(_is_number(v) for v in point)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e7
