"""The gates: which masks gain, learned from measured ones by gradient boosting, and how sure one must be."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.refinement.features import FEATURES
from crispmask.refinement.gate import NEVER, Gate
from crispmask.refinement.learned import WORSE
from crispmask.refinement.rules import DEPTH, Rules
from crispmask.training.refiner.measure import ANNOTATION, DETECTOR, Measured

FOLDS = 5
MARGINS = (-0.05, -0.02, -0.01, 0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, NEVER)
RISK_COSTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0)
"""What may be asked of the gain, and what the risk may cost. The last margin refines nothing."""

NEAR_MARGINS = (0.0, 0.001, 0.002, 0.004, 0.006, 0.01, 0.015, NEVER)
NEAR_RISK_COSTS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
"""The same of refinement within reach of the outline, which gains less."""

LOST, LOST_EXACT = 0.001, 0.003
"""Mean IoU that a kind of mask may lose on a set of images, and that the annotations themselves may lose there."""
CHANCES = (0.0, 0.01, 0.02, 0.03)
"""IoU that one mask of a kind may lose by chance besides."""
ENOUGH_GAIN = 0.95
"""Of these allowances the least is taken with which masks gain so large a part of what they gain with the most."""
MOSTLY = 0.1
"""Share of the masks, averaged over the kinds, that may get worse by more than a point of IoU."""

ENOUGH = 10
"""Kinds with fewer masks of a set have no say there."""

TREES, RATE, LEAST_LEAF = 80, 0.08, 40

_KEPT, _FULL, _NEAR = 0, 1, 2  # what is done with a mask: the place of the result among before and after


@dataclass(frozen=True)
class Outcome:
    """What the gate did to masks of one kind, of images that it was not learned from. Fractions, not percent.

    Attributes:
        kind: of the masks.
        masks: how many.
        before, after, always: IoU and boundary IoU before, after, and if every mask were refined.
        kept: masks that were left alone.
        near: masks that were refined within reach of their outline alone.
        worse: share of the masks whose IoU fell by more than a point.
    """

    kind: str
    masks: int
    before: tuple[float, float]
    after: tuple[float, float]
    always: tuple[float, float]
    kept: int
    near: int
    worse: float


@dataclass(frozen=True)
class Gates:
    """The gates of masks without and with probabilities, and what they did in folds by image."""

    binary: Gate
    soft: Gate
    outcomes: tuple[Outcome, ...]


def learn_gates(masks: Sequence[Measured], seed: int = 0, *, least_margin: float = -1.0) -> Gates:
    """Fit gains and risks, and choose margins and costs on images that those of a fold have not seen.

    Chosen is what gains most, averaged over the kinds of masks, among what lets no kind lose (`LOST`) and makes few
    masks worse (`MOSTLY`).

    Args:
        masks: measured with one setting, then with it within reach. A detector's have a score in use, which opens the
            gate (`LearnedParams`).
        seed: of the folds.
        least_margin: no margin may be below this.
    """
    binary = FEATURES.index("binary")
    found = [m for m in masks if m.kind == DETECTOR]
    outcomes = _outcomes(found, np.full(len(found), _FULL))
    made = []
    for soft in (False, True):
        own = [m for m in masks if m.kind != DETECTOR and bool(m.features[binary]) != soft]
        gate, done = _learned(own, seed, least_margin) if own else (Gate.constant(0, 0), [])
        made.append(gate)
        outcomes += done
    return Gates(made[0], made[1], tuple(sorted(outcomes, key=lambda outcome: outcome.kind)))


def _learned(masks: Sequence[Measured], seed: int, least_margin: float) -> tuple[Gate, list[Outcome]]:
    features = np.array([m.features for m in masks], np.float32)
    change = np.array([np.subtract(m.after, m.before) for m in masks])  # of each mask and way, in both measures
    targets = np.stack([change.mean(2), change[..., 0] < -WORSE], 2).reshape(len(masks), -1).astype(np.float64)
    kinds, images = np.array([m.kind for m in masks]), np.array([m.image for m in masks])

    def rules(of: NDArray[np.bool_]) -> Rules:
        return fit_rules(features[of], targets[of], _balanced(kinds[of].tolist()))

    order = np.random.default_rng(seed).permutation(np.unique(images))
    folds = np.empty(len(masks), np.int64)
    for k, image in enumerate(order):
        folds[images == image] = k % FOLDS
    foreseen = np.zeros_like(targets)
    for k in np.unique(folds):
        if (folds != k).any():
            foreseen[folds == k] = rules(folds != k).predict(features[folds == k])
    margins, near_margins = (
        sorted({max(margin, least_margin) for margin in tried}) for tried in (MARGINS, NEAR_MARGINS)
    )
    limits = margins, RISK_COSTS, near_margins, NEAR_RISK_COSTS
    found = _choices(masks, change, foreseen, limits)
    enough = ENOUGH_GAIN * found[-1].gain
    choice = next(choice for choice in found if choice.gain >= enough)
    return Gate(rules(np.ones(len(masks), np.bool_)).rounded(), *choice.limits), _outcomes(masks, choice.ways)


@dataclass(frozen=True)
class _Choice:
    """Margin and cost of the risk, the same within reach, what is then done with each mask (`_FULL`), and the gain."""

    limits: tuple[float, ...]
    ways: NDArray[np.int64]
    gain: float


def _choices(
    masks: Sequence[Measured],
    change: NDArray[np.float64],
    foreseen: NDArray[np.float64],
    limits: Sequence[Sequence[float]],
) -> list[_Choice]:
    """Margins and costs, one of each of four lists, with which masks gain most: for each of `CHANCES`.

    Args:
        masks: N masks.
        change: (N, 2, 2), what both ways of refinement, in full and within reach, do to IoU and boundary IoU.
        foreseen: (N, 4), gain and risk of the one, gain and risk of the other.
        limits: margins, costs of the risk, and the same within reach; the last margins refine nothing.
    """
    kinds = _shares([m.kind for m in masks])
    sets = _shares([(m.kind, m.source) for m in masks], ENOUGH)
    exact = sets @ np.array([float(m.kind == ANNOTATION) for m in masks]) > 0
    one = sets.max(1, initial=0.0)  # a share is one over the number
    lowest = [-(np.where(exact, LOST_EXACT, LOST) + chance * one) for chance in CHANCES]
    best = [_Choice((), np.zeros(len(masks), np.int64), -np.inf)] * len(CHANCES)
    for margin, cost in itertools.product(*limits[:2]):
        full = foreseen[:, 0] - cost * foreseen[:, 1] > margin
        for near_margin, near_cost in itertools.product(*limits[2:]):
            near = ~full & (foreseen[:, 2] - near_cost * foreseen[:, 3] > near_margin)
            changed = np.where(full[:, None], change[:, 0], np.where(near[:, None], change[:, 1], 0.0))
            gain = float((kinds @ changed).mean())
            if (kinds @ (changed[:, 0] < -WORSE)).mean() > MOSTLY:
                continue
            of_sets = sets @ changed[:, 0]
            better = [
                gain > so_far.gain and bool((of_sets >= least).all())
                for so_far, least in zip(best, lowest, strict=True)
            ]
            if any(better):
                ways = np.where(full, _FULL, np.where(near, _NEAR, _KEPT))
                choice = _Choice((margin, cost, near_margin, near_cost), ways, gain)
                best = [choice if is_better else so_far for is_better, so_far in zip(better, best, strict=True)]
    return best


def _shares(names: Sequence[Any], least: int = 1) -> NDArray[np.float64]:
    """A row for each name that occurs often enough: (G, N), one over their number where it occurs."""
    counts = Counter(names)
    rows = [[(name == own) / counts[own] for name in names] for own in sorted(counts) if counts[own] >= least]
    return np.array(rows, np.float64).reshape(-1, len(names))


def fit_rules(features: NDArray[np.float32], targets: NDArray[np.float64], weights: NDArray[np.float64]) -> Rules:
    """Gradient boosting (Friedman, 2001) of each target by scikit-learn, as `Rules` that predict the same.

    Args:
        features: (N, F), F the number of `FEATURES`.
        targets: (N, O).
        weights: (N,).
    """
    from sklearn.ensemble import GradientBoostingRegressor

    outputs = targets.shape[1]
    base, nodes, thresholds, leaves, of = np.zeros(outputs), [], [], [], []
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
            leaves.append(RATE * leaf)
            of.append(k)
    return Rules(FEATURES, base, np.array(nodes), np.array(thresholds), np.array(leaves), np.array(of))


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


def _outcomes(masks: Sequence[Measured], ways: NDArray[np.int64]) -> list[Outcome]:
    """What became of each kind of mask, each mask being refined in its way."""
    made = []
    sides = np.array([(m.before, *m.after) for m in masks])
    kinds = np.array([m.kind for m in masks])
    for kind in sorted(set(kinds.tolist())):
        own = kinds == kind
        before, always = sides[own, _KEPT], sides[own, _FULL]
        after = np.take_along_axis(sides[own], ways[own, None, None], axis=1)[:, 0]
        means = [(float(side[:, 0].mean()), float(side[:, 1].mean())) for side in (before, after, always)]
        worse = float((after[:, 0] < before[:, 0] - WORSE).mean())
        kept, near = (int((ways[own] == way).sum()) for way in (_KEPT, _NEAR))
        made.append(Outcome(kind, int(own.sum()), means[0], means[1], means[2], kept, near, worse))
    return made
