"""KL and mask of one instance after every iteration of its inference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispmask.instances import Instances, Window
from crispmask.params import CRFParams
from crispmask.refinement import instance_crf

NEARLY = 0.001
"""A mask is nearly settled when fewer of its pixels than this share still change, which is not visible."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What T iterations of mean field did to one mask.

    Attributes:
        kl: float64 (T + 1,), KL(Q‖P) - log Z in nats, at the start and after each iteration.
        masks: bool (T + 1, h, w), the most probable labels at the same times.
        corner: first row and column of the masks in the image.
    """

    kl: NDArray[np.float64]
    masks: NDArray[np.bool_]
    corner: tuple[int, int]

    @property
    def iterations(self) -> int:
        """T."""
        return len(self.kl) - 1

    @property
    def relative_kl(self) -> NDArray[np.float64]:
        """KL minus its last value, divided by its total decrease: float64 (T + 1,), from 1 to 0.

        All zeros where it did not decrease.
        """
        fall = float(self.kl[0] - self.kl[-1])
        return (self.kl - self.kl[-1]) / fall if fall > 0 else np.zeros_like(self.kl)

    @property
    def changed(self) -> NDArray[np.int64]:
        """Pixels whose label changed in each iteration: int64 (T,)."""
        return (self.masks[1:] != self.masks[:-1]).sum(axis=(1, 2))

    @property
    def unsettled(self) -> NDArray[np.float64]:
        """Pixels whose label is not the last one, as a share of the first or last mask's: float64 (T + 1,)."""
        size = max(int(self.masks[0].sum()), int(self.masks[-1].sum()), 1)
        return np.asarray((self.masks != self.masks[-1]).sum(axis=(1, 2)) / size, np.float64)

    @property
    def settled(self) -> int | None:
        """The number of iterations after which no label changes; None if one changed in the last iteration."""
        changes = np.flatnonzero(self.changed)
        last = int(changes[-1]) + 1 if len(changes) else 0
        return last if last < self.iterations else None

    @property
    def nearly_settled(self) -> int:
        """The number of iterations after which the mask differs from the last one by less than `NEARLY`."""
        far = np.flatnonzero(self.unsettled >= NEARLY)
        return int(far[-1]) + 1 if len(far) else 0

    def window(self, t: int) -> Window:
        """The mask after t iterations as a window of the image."""
        return Window(self.masks[t].astype(np.float32), *self.corner)


def trace_instance(image: NDArray[np.uint8], instances: Instances, i: int, params: CRFParams, iterations: int) -> Trace:
    """Follow the refinement of one instance: that of `crispmask.refine` with another number of iterations.

    Args:
        image: uint8 (H, W, 3) RGB.
        instances: of this image.
        i: number of an instance whose mask is not empty.
        params: of the refinement; their own number of iterations does not count.
        iterations: T.
    """
    crf, corner = instance_crf(image, instances, i, params)
    masks: list[NDArray[np.bool_]] = []
    # A tie is background, as everywhere.
    result = crf.run(iterations, track=True, observe=lambda q: masks.append(q[1] > q[0]))
    assert result.kl is not None
    return Trace(result.kl, np.stack(masks), corner)


def trace_image(image: NDArray[np.uint8], instances: Instances, params: CRFParams, iterations: int) -> dict[int, Trace]:
    """`trace_instance` of every instance of an image whose mask is not empty, by its number."""
    return {
        i: trace_instance(image, instances, i, params, iterations)
        for i, window in enumerate(instances.windows)
        if window.mask.any()
    }
