"""What every detector is: a callable with a name and categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # the command line's help needs the package's names, not its arrays
    import numpy as np
    from numpy.typing import NDArray

    from crispmask.instances import Instances


class Detector(Protocol):
    """Finds the objects of one image; safe to call from several threads.

    Attributes:
        name: what `load_detector` was asked for, for messages and provenance.
        categories: category id to name.
        checksum: SHA-256 of the weights, in hex.
    """

    name: str
    categories: dict[int, str]
    checksum: str

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Objects by falling score in an image (H, W, 3) uint8 RGB."""
        ...
