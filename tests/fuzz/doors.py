"""The doors: each takes a source of chance, and gives the input and a call that must be refused well or answered.

The input is bytes; the call gets a file of them, in a folder that is empty but for it and is emptied afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.fuzz import calls, files, labels, studio, web
from tests.fuzz.calls import Case

Door = Callable[[random.Random], Case]

DOORS: dict[str, Door] = {
    "image": files.image,
    "annotations": files.annotations,
    "results": files.results,
    "scores": files.scores,
    "params": files.params,
    "learned": files.learned,
    "journal": files.journal,
    "labelme": labels.labelme,
    "yolo": labels.yolo,
    "maps": labels.maps,
    "studio": studio.tasks,
    "interface": studio.interface,
    "arrays": calls.arrays,
    "dropin": calls.drop_in,
    "web": web.requests,
}

WARM: dict[str, Callable[[], None]] = {
    "scores": files.warm,
    "arrays": calls.warm,
    "dropin": calls.warm_drop_in,
    "studio": studio.warm,
    "web": web.warm,
}
"""What a door needs to be compiled or started."""

ALLOWED: dict[str, tuple[type[Exception], ...]] = {"dropin": calls.DROP_IN_ERRORS}
"""Exceptions of a door besides crispmask's own."""
