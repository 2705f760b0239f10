"""How much a difference would vary on other images: the paired bootstrap over images.

The images of the data set are drawn at random, with replacement, as many as there are; both results are measured on the
same draw, and the difference is taken. The differences of many draws vary as they would over data sets of this size
(B. Efron and R. Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13: the percentile interval). Nothing is
matched again: `MatchedDetections.measure` weights the images.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispmask.evaluation.metrics import MatchedDetections

LEVEL = 0.95
_BLOCK = 8
"""Draws that a thread measures at a time: few enough to share the work evenly, and to hold little of 200 000 images."""


@dataclass(frozen=True)
class Interval:
    """The range of the middle 95 % of the resampled differences; NaN where no draw gave a difference."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the draws, but for 5 % of them, agree on the sign of the difference."""
        return self.low > 0 or self.high < 0


def draws(images: int, n: int, seed: int = 0) -> NDArray[np.uint8]:
    """How often each image is drawn: uint8 (n, images); every row sums to `images`.

    That an image is drawn more than 255 times in a draw has a chance below 1e-500.
    """
    made = np.zeros((n, images), np.uint8)
    if images:
        rng, chances = np.random.default_rng(seed), np.full(images, 1 / images)
        for row in made:
            row[:] = rng.multinomial(images, chances)
    return made


def resampled(matched: MatchedDetections, weights: NDArray[np.uint8]) -> NDArray[np.float64]:
    """`MatchedDetections.measure` of all draws, in several threads: float64 (n, K, 6)."""
    blocks = [weights[k : k + _BLOCK] for k in range(0, len(weights), _BLOCK)]
    if not blocks:
        return matched.measure(weights)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(matched.measure, blocks)))


def interval(differences: NDArray[np.float64], level: float = LEVEL) -> Interval:
    """The percentile interval of the differences of all draws (n,); draws that are NaN are left out."""
    known = differences[~np.isnan(differences)]
    if not len(known):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def weighted_means(
    values: NDArray[np.float64], image: NDArray[np.int64], weights: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Mean of the values (n, V) in each draw, every one counted as often as its image (n,): float64 (draws, V)."""
    sums = np.zeros((weights.shape[1], values.shape[1] + 1))
    np.add.at(sums, image, np.column_stack([values, np.ones(len(values))]))
    present = np.flatnonzero(sums[:, -1])
    blocks = [weights[k : k + _BLOCK, present] for k in range(0, len(weights), _BLOCK)]
    totals = np.concatenate([block.astype(np.float64) @ sums[present] for block in blocks])
    with np.errstate(invalid="ignore"):
        return np.asarray(totals[:, :-1] / np.where(totals[:, -1:] > 0, totals[:, -1:], np.nan))


def intervals(first: NDArray[np.float64], other: NDArray[np.float64]) -> list[Interval]:
    """The interval of other - first for each metric, from draws (n, metrics)."""
    return [interval(column) for column in (other - first).T]
