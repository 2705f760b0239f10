"""The gates: which masks gain, learned from measured ones by gradient boosting, and how sure one must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.refinement.features import FEATURES
from crispmask.refinement.gate import Gate
from crispmask.refinement.learned import WORSE
from crispmask.refinement.rules import DEPTH, Rules
from crispmask.training.refiner.measure import DETECTOR, Measured

FOLDS = 5
MARGINS = (-1.0, *(k / 1000 for k in range(-10, 21, 2)), 0.03, 0.05, 1.0)
"""Gains from which a mask is refined; the first refines all of them, the last none."""

RISKS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 1.0)

LOST = 0.001
"""A kind of mask may not lose more mean IoU than this, and what one mask in its place could lose by chance."""
CHANCE = 0.03
MOSTLY = 0.1
"""Share of the masks, averaged over the kinds, that may get worse by more than a point of IoU."""

ENOUGH = 10
"""Kinds with fewer masks have no say."""

TREES, RATE, LEAST_LEAF = 80, 0.08, 12


@dataclass(frozen=True)
class Outcome:
    """What the gate did to masks of one kind, of images that it was not learned from. Fractions, not percent.

    Attributes:
        kind: of the masks.
        masks: how many.
        before, after, always: IoU and boundary IoU before, after, and if every mask were refined.
        kept: masks that were left alone.
        worse: share of the masks whose IoU fell by more than a point.
    """

    kind: str
    masks: int
    before: tuple[float, float]
    after: tuple[float, float]
    always: tuple[float, float]
    kept: int
    worse: float


@dataclass(frozen=True)
class Gates:
    """The gates of masks without and with probabilities, and what they did in folds by image."""

    binary: Gate
    soft: Gate
    outcomes: tuple[Outcome, ...]


def learn_gates(
    masks: Sequence[Measured], seed: int = 0, *, least_margin: float = -1.0, most_risk: float = 1.0
) -> Gates:
    """Fit gain and risk, and choose margin and limit on images that those of a fold have not seen.

    Chosen is what gains most, averaged over the kinds of masks, among what lets no kind lose (`LOST`) and makes few
    masks worse (`MOSTLY`).

    Args:
        masks: measured with one setting. A detector's have a score in use, which opens the gate (`LearnedParams`).
        seed: of the folds.
        least_margin, most_risk: bounds of margin and limit.
    """
    binary = FEATURES.index("binary")
    found = [m for m in masks if m.kind == DETECTOR]
    outcomes = _outcomes(found, np.ones(len(found), np.bool_))
    made = []
    for soft in (False, True):
        own = [m for m in masks if m.kind != DETECTOR and bool(m.features[binary]) != soft]
        gate, done = _learned(own, seed, least_margin, most_risk) if own else (Gate.constant(0, 0), [])
        made.append(gate)
        outcomes += done
    return Gates(made[0], made[1], tuple(sorted(outcomes, key=lambda outcome: outcome.kind)))


def _learned(masks: Sequence[Measured], seed: int, least_margin: float, most_risk: float) -> tuple[Gate, list[Outcome]]:
    features = np.array([m.features for m in masks], np.float32)
    change = np.array([np.subtract(m.after[0], m.before) for m in masks])
    targets = np.stack([change.mean(1), change[:, 0] < -WORSE], 1).astype(np.float64)
    kinds, images = np.array([m.kind for m in masks]), np.array([m.image for m in masks])

    def rules(of: NDArray[np.bool_]) -> Rules:
        return fit_rules(features[of], targets[of], _balanced(kinds[of].tolist()))

    order = np.random.default_rng(seed).permutation(np.unique(images))
    folds = np.empty(len(masks), np.int64)
    for k, image in enumerate(order):
        folds[images == image] = k % FOLDS
    expected = np.zeros_like(targets)
    for k in np.unique(folds):
        if (folds != k).any():
            expected[folds == k] = rules(folds != k).predict(features[folds == k])
    tried = []
    for margin in sorted({max(margin, least_margin) for margin in MARGINS}):
        for limit in sorted({min(limit, most_risk) for limit in RISKS}):
            refined = (expected[:, 0] > margin) & (expected[:, 1] <= limit)
            tried.append((margin, limit, _outcomes(masks, refined)))
    margin, limit, outcomes = max((entry for entry in tried if _safe(entry[2])), key=lambda entry: _gain(entry[2]))
    return Gate(rules(np.ones(len(masks), np.bool_)).rounded(), margin, limit), outcomes


def fit_rules(features: NDArray[np.float32], targets: NDArray[np.float64], weights: NDArray[np.float64]) -> Rules:
    """Gradient boosting (Friedman, 2001) of each target by scikit-learn, as `Rules` that predict the same.

    Args:
        features: (N, F), F the number of `FEATURES`.
        targets: (N, O).
        weights: (N,).
    """
    from sklearn.ensemble import GradientBoostingRegressor

    outputs = targets.shape[1]
    base, nodes, thresholds, leaves = np.zeros(outputs), [], [], []
    for k in range(outputs):
        model = GradientBoostingRegressor(
            n_estimators=TREES,
            learning_rate=RATE,
            max_depth=DEPTH,
            min_samples_leaf=min(LEAST_LEAF, max(1, len(features) // 8)),
            random_state=0,
        ).fit(features, targets[:, k], weights)
        base[k] = float(model.init_.constant_[0, 0])
        for (estimator,) in model.estimators_:
            node, threshold, leaf = _as_rule(estimator.tree_)
            nodes.append(node)
            thresholds.append(threshold)
            column = np.zeros((len(leaf), outputs))
            column[:, k] = RATE * leaf
            leaves.append(column)
    return Rules(FEATURES, base, np.array(nodes), np.array(thresholds), np.array(leaves))


def _as_rule(tree: Any) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """A tree of scikit-learn as a full one of depth `DEPTH`: features and thresholds of its nodes, and its leaves.

    Below a leaf that is less deep, both sides have its value. scikit-learn goes right above a threshold, `Rules` from
    it on: the threshold becomes the next float32, which is what features are.
    """
    inner = 2**DEPTH - 1
    nodes, thresholds, leaves = np.zeros(inner, np.int64), np.zeros(inner), np.zeros(inner + 1)

    def fill(place: int, node: int) -> None:
        if place >= inner:
            leaves[place - inner] = tree.value[node, 0, 0]
            return
        left, right = int(tree.children_left[node]), int(tree.children_right[node])
        if left < 0:  # a leaf
            left = right = node
        else:
            nodes[place], thresholds[place] = tree.feature[node], _next_float32(float(tree.threshold[node]))
        fill(2 * place + 1, left)
        fill(2 * place + 2, right)

    fill(0, 0)
    return nodes, thresholds, leaves


def _next_float32(value: float) -> float:
    """The smallest float32 above a number."""
    near = np.float32(value)
    return float(near if float(near) > value else np.nextafter(near, np.float32(np.inf)))


def _balanced(kinds: Sequence[str]) -> NDArray[np.float64]:
    """Weights with which every kind of mask counts the same, up to four times as much as its number says."""
    counts = Counter(kinds)
    even = len(kinds) / len(counts)
    return np.array([min(4.0, even / counts[kind]) for kind in kinds])


def _outcomes(masks: Sequence[Measured], refined: NDArray[np.bool_]) -> list[Outcome]:
    made = []
    before, after = (np.array(side) for side in ([m.before for m in masks], [m.after[0] for m in masks]))
    result = np.where(refined[:, None], after, before)
    kinds = np.array([m.kind for m in masks])
    for kind in sorted(set(kinds.tolist())):
        own = kinds == kind
        means = [(float(side[own, 0].mean()), float(side[own, 1].mean())) for side in (before, result, after)]
        worse = float((result[own, 0] < before[own, 0] - WORSE).mean())
        made.append(Outcome(kind, int(own.sum()), means[0], means[1], means[2], int((~refined[own]).sum()), worse))
    return made


def _safe(outcomes: Sequence[Outcome]) -> bool:
    """Whether no kind of mask loses, and few masks get worse."""
    if np.mean([o.worse for o in outcomes]) > MOSTLY:
        return False
    return all(o.after[0] - o.before[0] >= -(LOST + CHANCE / o.masks) for o in outcomes if o.masks >= ENOUGH)


def _gain(outcomes: Sequence[Outcome]) -> float:
    """Of IoU and boundary IoU, averaged over the kinds."""
    return float(np.mean([np.subtract(o.after, o.before).mean() for o in outcomes]))
