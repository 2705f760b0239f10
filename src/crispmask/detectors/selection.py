"""What is wanted of a detector: which classes, from which score on, and whether it also looks at tiles of the image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from crispmask.arguments import number, sequence, shown
from crispmask.detectors.base import Detector, default_score
from crispmask.detectors.tiles import find_in_tiles
from crispmask.errors import ModelError, ParamsError, ValueRangeError
from crispmask.instances import Instances
from crispmask.params import check_number

MOST_TILES = 16
"""256 views of an image: more is a mistake rather than a wish."""

FEW = 10
"""So many classes are listed in an error message."""

Classes = str | Sequence[str | int]
"""Names or category ids of classes; one string holds them separated by commas."""


class Selection:
    """A `Detector` of which only some finds are wanted.

    Args:
        detector: any detector.
        score: finds below it are dropped, in [0, 1]; by default none are.
        classes: the only classes that are wanted, by name or category id; by default all.
        tiles: N for the whole image and N x N overlapping tiles of it, see `crispmask.detectors.tiles`.

    Attributes:
        categories: the detector's, or those of them that are wanted.
        classes: their names where some were chosen, else None.

    Raises:
        ModelError: an object that is no detector.
        ParamsError: a class that the detector does not have, a score outside [0, 1], or tiles outside 1..16.
    """

    def __init__(
        self, detector: Detector, *, score: float | None = None, classes: Classes | None = None, tiles: int = 1
    ) -> None:
        if not callable(detector):
            raise ModelError(f"a detector must be a name or a callable, got {shown(detector)}")
        self.detector = detector
        self.score = None if score is None else check_score(score)
        at_least = getattr(detector, "at_least", None)
        self._finder: Detector = detector if at_least is None or self.score is None else at_least(self.score)
        self.tiles: int = check_number("tiles", tiles, 1, MOST_TILES, whole=True)
        chosen = None if classes is None else find_classes(detector.categories, classes)
        self.classes = None if chosen is None else tuple(chosen.values())
        self._ids = None if chosen is None else np.array(list(chosen), np.int64)

    @property
    def name(self) -> str:
        """The detector's."""
        return self.detector.name

    @property
    def checksum(self) -> str:
        """The detector's."""
        return self.detector.checksum

    @property
    def categories(self) -> dict[int, str]:
        """Name by id."""
        known = self.detector.categories
        return known if self._ids is None else {int(key): known[int(key)] for key in self._ids}

    @property
    def default_score(self) -> float:
        """The selection's own, or the detector's."""
        return default_score(self.detector) if self.score is None else self.score

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """The wanted objects by descending score in an image (H, W, 3) uint8 RGB."""
        return self.batch([image])[0]

    def batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Instances]:
        """The wanted objects of several images; a detector that takes several at once gets them so."""
        return [self._wanted(found) for found in find_in_tiles(self._finder, images, self.tiles)]

    def _wanted(self, found: Instances) -> Instances:
        if self._ids is not None:
            found = found[np.isin(found.category_ids, self._ids)]
        return found if self.score is None else found.above(self.score)


def select(
    detector: Detector, *, score: float | None = None, classes: Classes | None = None, tiles: int | None = None
) -> Selection:
    """A selection of a detector; of one that is a selection itself, with what is given here in place of its own.

    Arguments and errors as for `Selection`; None: as it was.
    """
    own = detector if isinstance(detector, Selection) else Selection(detector)
    return Selection(
        own.detector,
        score=own.score if score is None else score,
        classes=own.classes if classes is None else classes,
        tiles=own.tiles if tiles is None else tiles,
    )


def check_score(score: float) -> float:
    """The score as a float; ParamsError where it is no number in [0, 1]."""
    try:
        return float(number(score, "score", 0, 1))
    except ValueRangeError:
        raise ParamsError(f"score must be a number in [0, 1], got {shown(score)}") from None


def find_classes(categories: Mapping[int, str], wanted: Classes) -> dict[int, str]:
    """The categories that are meant, name by id, in the order of `categories`.

    Args:
        categories: of a detector, name by id.
        wanted: names, whatever their case, or ids.

    Raises:
        ParamsError: no class, or one that is not among the categories; the message names those of similar names.
    """
    asked = wanted.split(",") if isinstance(wanted, str) else sequence(wanted, "classes", ParamsError)
    ids = {name.casefold(): key for key, name in categories.items()}
    chosen = {_find(str(name).strip(), ids, categories) for name in asked if str(name).strip()}
    if not chosen:
        raise ParamsError(f"no class is named: give some of {_all(categories.values())}")
    return {key: name for key, name in categories.items() if key in chosen}


def _find(name: str, ids: Mapping[str, int], categories: Mapping[int, str]) -> int:
    if name.casefold() in ids:
        return ids[name.casefold()]
    if name.isdecimal() and int(name) in categories:
        return int(name)
    near = [] if len(ids) <= FEW else get_close_matches(name.casefold(), ids, n=3)
    hint = f"did you mean {' or '.join(repr(categories[ids[key]]) for key in near)}? " if near else ""
    raise ParamsError(f"the detector has no class {name!r}: {hint}It finds {_all(categories.values())}")


def _all(names: Iterable[str]) -> str:
    """A few names, or where to see many."""
    known = list(names)
    if len(known) <= FEW:
        return ", ".join(known)
    return f"{len(known)} classes, which 'crispmask models classes' lists"
