"""From samples to rules: how much each setting can be expected to help, and how sure one must be to touch a mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispmask.refinement.features import FEATURES
from crispmask.refinement.learned import WORSE
from crispmask.refinement.rules import Rules
from crispmask.training.refiner.samples import Sample

FOLDS = 5
MARGINS = (*(k / 1000 for k in range(21)), 0.025, 0.03, 0.04, 0.05, 0.07, 0.1, 1.0)  # the last leaves all masks alone
ENOUGH = 10
RISKS = (0.2, 0.3, 0.4)
# How many standard errors a kind may fall by. With one, chance alone would forbid nearly every margin where there are
# twenty kinds, a few dozen masks each.
ERRORS = 2


@dataclass(frozen=True)
class Outcome:
    """What the rules did to masks of one kind that they were not learnt from; overlaps as fractions.

    Attributes:
        kind: of the masks.
        masks: how many.
        before, after, best: IoU and boundary IoU of the masks, of the refined, and of the best of mask and settings.
        kept: masks that were left alone.
        error: standard error of the gain in IoU.
    """

    kind: str
    masks: int
    before: tuple[float, float]
    after: tuple[float, float]
    best: tuple[float, float]
    kept: int
    error: float


@dataclass(frozen=True)
class Choice:
    """The rules, the risks, the margin and the limit that go with them, and what they did out of fold."""

    rules: Rules
    risks: Rules
    margin: float
    max_risk: float
    outcomes: tuple[Outcome, ...]


def learn_rules(samples: Sequence[Sample], *, category_min: int) -> Choice:
    """Fit rules and risks; choose how sure one must be on photos that those of a fold have not seen.

    Margin and limit of the risk are those with the largest gain, averaged over the kinds of masks, among those with
    which no mean IoU falls by more than `ERRORS` standard errors; kinds of fewer than `ENOUGH` masks have no say.
    """
    features = np.stack([s.features for s in samples])
    gains = np.stack([s.gains for s in samples])
    categories = np.array([s.category for s in samples], np.int64)
    groups = np.array([s.group for s in samples])
    weights = _balanced([s.kind for s in samples])
    offsets = categories if len(np.unique(categories)) > 1 else None

    worse = (gains < -WORSE).astype(np.float64)

    def fit(rows: NDArray[np.bool_], targets: NDArray[np.float64]) -> Rules:
        return Rules.fit(
            FEATURES,
            features[rows],
            targets[rows],
            weights=weights[rows],
            categories=None if offsets is None else offsets[rows],
            category_min=category_min,
        )

    # Whole photos are left out, in an order that is not the data set's.
    order = np.random.default_rng(0).permutation(np.unique(groups))
    fold_of = {int(group): k % FOLDS for k, group in enumerate(order)}
    folds = np.array([fold_of[int(group)] for group in groups])
    expected, chances = np.zeros_like(gains), np.ones_like(gains)
    for k in np.unique(folds):
        own = folds == k
        if not own.all():
            for targets, found in ((gains, expected), (worse, chances)):
                found[own] = fit(~own, targets).predict(features[own], categories[own])
    overlaps = np.stack([s.overlaps for s in samples])
    kinds = [s.kind for s in samples]
    tried = [
        ((margin, limit), _outcomes(overlaps, np.where(chances < limit, expected, -1), kinds, margin))
        for margin in MARGINS
        for limit in RISKS
    ]

    def least(outcomes: Sequence[Outcome]) -> float:
        return min((o.after[0] - o.before[0] + ERRORS * o.error for o in outcomes if o.masks >= ENOUGH), default=0.0)

    def total(outcomes: Sequence[Outcome]) -> float:
        return float(np.mean([np.subtract(o.after, o.before).mean() for o in outcomes]))

    safe = [entry for entry in tried if least(entry[1]) >= 0]
    (margin, limit), outcomes = max(safe, key=lambda e: total(e[1]))
    everything = np.ones(len(samples), bool)
    rules, risks = (fit(everything, targets).rounded() for targets in (gains, worse))
    return Choice(rules, risks, margin, limit, tuple(outcomes))


def _balanced(kinds: Sequence[str]) -> NDArray[np.float64]:
    """Weights with which every kind of mask counts the same, up to four times as much as its number says."""
    counts = Counter(kinds)
    even = len(kinds) / len(counts)
    return np.array([min(4.0, even / counts[kind]) for kind in kinds])


def _outcomes(
    overlaps: NDArray[np.float64], expected: NDArray[np.float64], kinds: Sequence[str], margin: float
) -> list[Outcome]:
    best = expected.argmax(1)
    rows = np.arange(len(overlaps))
    chosen = np.where(expected[rows, best] > margin, best + 1, 0)
    oracle = overlaps.mean(2).argmax(1)
    found = []
    for kind in sorted(set(kinds)):
        own = np.array([k == kind for k in kinds])
        sides = (overlaps[own, 0], overlaps[rows, chosen][own], overlaps[rows, oracle][own])
        before, after, most = ((float(m[0]), float(m[1])) for m in (side.mean(0) for side in sides))
        error = float((sides[1] - sides[0])[:, 0].std() / np.sqrt(own.sum()))
        found.append(Outcome(kind, int(own.sum()), before, after, most, int((chosen[own] == 0).sum()), error))
    return found
