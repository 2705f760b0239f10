"""One photo: detect, choose by score, refine; and its picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.detectors.base import Detector
from crispmask.draw import before_after
from crispmask.errors import ParamsError
from crispmask.files import replacing
from crispmask.instances import Instances
from crispmask.params import DEFAULT_SCORE, CRFParams
from crispmask.refinement import Decision, LearnedParams, Params, default_params, explain, refine_instances


@dataclass(frozen=True)
class Settings:
    """What decides the masks of a photo, besides the detector.

    Attributes:
        params: of the refinement; by default the learnt ones that ship.
        score: detections below it are dropped, in [0, 1].
        refine: whether to refine at all; if not, the masks after are the masks before.
        joint: whether every pixel belongs to one instance at most.

    Raises:
        ParamsError: a score outside [0, 1].
    """

    params: Params = field(default_factory=default_params)
    score: float = DEFAULT_SCORE
    refine: bool = True
    joint: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise ParamsError(f"score must be a number in [0, 1], got {self.score!r}")
        object.__setattr__(self, "score", float(self.score))

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping of names to values; parameters that have no effect are left out."""
        own = {"score": self.score, "refine": self.refine}
        return {**own, "joint": self.joint, **self.params.as_dict()} if self.refine else own


def process(
    image: NDArray[np.uint8], detector: Detector, settings: Settings | None = None, *, threads: int | None = None
) -> tuple[Instances, Instances]:
    """Detect and refine the objects of one photo.

    Args:
        image: uint8 (H, W, 3) RGB.
        detector: see `crispmask.load_detector`; or any callable from such an image to `Instances`.
        settings: by default ``Settings()``.
        threads: of the refinement; by default one per processor. The result has the same bits for any number.

    Returns:
        The detector's instances at or above the score, and the same instances with refined masks.
    """
    settings = settings or Settings()
    before = detect(image, detector, settings)
    return before, refine(image, before, settings, threads=threads)


def choose_and_refine(
    image: NDArray[np.uint8],
    found: Instances,
    settings: Settings,
    *,
    threads: int | None = None,
    decisions: list[Decision | None] | None = None,
) -> tuple[Instances, Instances]:
    """`process` from the objects on that a detector found in a photo, among others of a batch.

    `decisions` is filled as by `refine_instances`.
    """
    before = _scored(found, settings)
    return before, refine(image, before, settings, threads=threads, decisions=decisions)


def detect(image: NDArray[np.uint8], detector: Detector, settings: Settings) -> Instances:
    """The first half of `process`: the detector's instances at or above the score."""
    return _scored(detector(image), settings)


def _scored(found: Instances, settings: Settings) -> Instances:
    """The instances at or above the score."""
    return found[found.scores >= np.float32(settings.score)]


def refine(
    image: NDArray[np.uint8],
    before: Instances,
    settings: Settings,
    *,
    threads: int | None = None,
    decisions: list[Decision | None] | None = None,
) -> Instances:
    """The second half of `process`: the same instances with refined masks, or as they are where none are wanted."""
    if not settings.refine or not len(before):
        return before
    return refine_instances(image, before, settings.params, threads=threads, joint=settings.joint, decisions=decisions)


def prepare(settings: Settings) -> None:
    """Compile what `process` will need with these settings, on a few pixels.

    It compiles only what these settings use: on two busy cores 51 s, where `crispmask.crf.warmup`, which compiles
    what any settings need, took 124 s; with Numba's cache filled both only load the machine code.
    """
    if settings.refine:
        image = np.zeros((16, 16, 3), np.uint8)
        masks = np.eye(16, dtype=bool)[None].repeat(2, axis=0)  # two, so that joint refinement has three labels
        instances, params = Instances.from_masks(masks), settings.params
        if isinstance(params, LearnedParams):  # which might leave these masks alone
            explain(image, instances, params, threads=1)
            params = next((s.params for s in params.settings if s.params.iterations), CRFParams())
        refine_instances(image, instances, params, threads=1, joint=settings.joint)


def write_picture(
    path: Path, image: NDArray[np.uint8], before: Instances, after: Instances, *, refined: bool = True
) -> None:
    """Write the before/after picture of a photo, in place of an older one only when complete.

    Args:
        path: the file, ``.png`` or ``.jpg``.
        image: uint8 (H, W, 3) RGB.
        before, after: what `process` gave.
        refined: whether the masks were refined, for the title.
    """
    picture = before_after(image, before, after, titles=("Detector", "Refined" if refined else "Not refined"))
    with replacing(path) as partial:
        kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
        Image.fromarray(picture).save(partial, format=kind, quality=92)
