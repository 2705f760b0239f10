"""The interface of detectors: a callable with a name and categories; some take several images at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from crispmask.params import DEFAULT_SCORE

if TYPE_CHECKING:  # the command line's help needs the package's names, not its arrays
    import numpy as np
    from numpy.typing import NDArray

    from crispmask.instances import Instances


class Detector(Protocol):
    """Finds the objects of one image; safe to call from several threads.

    A detector that is faster on several images at once also has ``batch(images)``, which gives a list of `Instances`.
    One that shows few wrong objects from another score on than `DEFAULT_SCORE` has that score as ``default_score``. One
    that saves time where low scores are not wanted has ``at_least(score)``, which gives the same detector without them.
    One that looks at each image twice has ``one_view()``, which gives the same detector that looks once.

    Attributes:
        name: the name or path that `load_detector` was given, for messages and provenance.
        categories: category id to name.
        checksum: SHA-256 of the weights, in hex.
    """

    # Properties, so that an implementation may have them as plain attributes or as properties.
    @property
    def name(self) -> str: ...

    @property
    def categories(self) -> dict[int, str]: ...

    @property
    def checksum(self) -> str: ...

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Objects by descending score in an image (H, W, 3) uint8 RGB."""
        ...


def default_score(detector: object) -> float:
    """The score from which on a detector's finds are used where the user names none: its own, if it has one."""
    return float(getattr(detector, "default_score", DEFAULT_SCORE))


def detect_all(detector: Detector, images: Sequence[NDArray[np.uint8]]) -> list[Instances]:
    """The objects of each image, all images at once where the detector can do that."""
    batch = getattr(detector, "batch", None)
    return batch(images) if batch and len(images) > 1 else [detector(image) for image in images]
