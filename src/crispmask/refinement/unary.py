"""Mask to probability to log-odds: the unary term of the CRF."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crispmask.image.scaling import resized
from crispmask.instances import Window
from crispmask.params import CRFParams
from crispmask.refinement.reach import beyond_reach, covering
from crispmask.refinement.windows import Rect

# Standard deviations after which the Gaussian is cut: 1 % of it lies beyond.
_TRUNCATE = 2.6


@dataclass(frozen=True, eq=False)
class Unary:
    """The unary term of one instance, and the setting of the CRF that goes with it.

    Attributes:
        odds: float32 (h, w), log-odds of foreground over `rect`, at its own resolution or a lower one.
        rect: where in the image.
        scale: size of the object: square root of its box's area, pixels of the image.
        params: of the CRF.
        sampled: whether the CRF may take some only of the pixels that are decided; see `evidence`.
    """

    odds: NDArray[np.float32]
    rect: Rect
    scale: float
    params: CRFParams
    sampled: bool = False

    def over(self, rect: Rect) -> NDArray[np.float32]:
        """The log-odds over a rectangle that contains this one, at its `grid`; outside, the lowest that there are."""
        if rect == self.rect:
            return self.odds
        full = np.full(rect.shape, self.odds.min(), np.float32)
        y, x, (height, width) = self.rect.y0 - rect.y0, self.rect.x0 - rect.x0, self.rect.shape
        full[y : y + height, x : x + width] = resized(self.odds, self.rect.shape)
        return resized(full, rect.grid)

    def within_reach(self, window: Window, reach: float) -> Unary:
        """The same for a mask whose outline may move by `reach` pixels of the image at most."""
        rect = covering(self.rect, window)
        known = beyond_reach(window, rect, reach)
        return replace(self, odds=np.where(known != 0, known, self.over(rect)), rect=rect)


def is_binary(probabilities: NDArray[np.float32]) -> bool:
    """Whether a map holds nothing but zeros and ones."""
    return bool(((probabilities == 0) | (probabilities == 1)).all())


def soften(probabilities: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Smooth a mask with a Gaussian whose width adapts to the mask's size.

    The probabilities of a binary mask become near one inside, near zero outside, and undecided in a band along the
    edge that is as wide as the error that detectors of 28x28 cells make on an object of this size.

    Args:
        probabilities: float32 (h, w) in [0, 1].
        factor: sigma in pixels is this times the square root of the mask's area (the sum of its probabilities).

    Returns:
        float32 (h, w) in [0, 1]; the input itself where sigma is below a fifth of a pixel.
    """
    from scipy.ndimage import gaussian_filter

    sigma = factor * float(np.sqrt(probabilities.sum(dtype=np.float64)))
    if sigma < 0.2:
        return probabilities
    return np.clip(gaussian_filter(probabilities, sigma, mode="nearest", truncate=_TRUNCATE), 0, 1)


def log_odds(probabilities: NDArray[np.float32], confidence: float) -> NDArray[np.float32]:
    """log(p / (1 - p)), the unary energy of background minus the one of foreground.

    Args:
        probabilities: float32, any shape, in [0, 1].
        confidence: p is clipped to [1 - confidence, confidence] first; below 1.

    Returns:
        float32 of the same shape, finite.
    """
    p = np.clip(probabilities, np.float32(1 - confidence), np.float32(confidence))
    return np.log(p / (1 - p))


def sigmoid(log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probability that has these log-odds: float32 of the same shape, in [0, 1]."""
    half = np.tanh(0.5 * log_odds)  # unlike 1 / (1 + exp(-x)), this never overflows
    return np.asarray(0.5 + 0.5 * half, np.float32)


def unary_energies(log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Energies (negative log-probabilities, up to a constant per pixel) of background and objects.

    Background has energy zero and object i the negative of its log-odds: for one object the softmax gives back its
    probability, for several each one's odds against the background are kept.

    Args:
        log_odds: float32 (N, h, w), one map per object.

    Returns:
        float32 (N + 1, h, w), label 0 is the background.
    """
    energies = np.zeros((len(log_odds) + 1, *log_odds.shape[1:]), np.float32)
    np.negative(log_odds, out=energies[1:])
    return energies
