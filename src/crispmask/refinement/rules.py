"""The rules: small decision trees whose sum is the gain to expect of each setting, from an instance's features.

Gradient boosting (Friedman, 2001) with trees that answer for all settings at once. Additive rules, a sum of piecewise
linear functions of one feature each, were tried first: out of fold they kept a third less of the gain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

DEPTH = 3
_NEVER = 1e30  # the threshold of a node that sends everything to its left
_PRIOR = 5.0  # instances' worth of evidence for no gain, in every leaf
_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Rules:
    """Trees of depth `DEPTH`: at each node an instance goes right where its feature is at or above the threshold.

    Attributes:
        features: names of the F inputs.
        base: float64 (O,), the gain of each output before the trees.
        nodes: int64 (T, 2**DEPTH - 1), the feature that each node looks at, breadth first.
        thresholds: float64 (T, 2**DEPTH - 1).
        leaves: float64 (T, 2**DEPTH, O), what each leaf adds, from left to right.
        categories: what instances of a category add to each output: float64 (O,).
    """

    features: tuple[str, ...]
    base: NDArray[np.float64]
    nodes: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    leaves: NDArray[np.float64]
    categories: Mapping[int, NDArray[np.float64]]

    def __post_init__(self) -> None:
        inner, outer = 2**DEPTH - 1, 2**DEPTH
        base = np.asarray(self.base, np.float64).reshape(-1)
        nodes = np.asarray(self.nodes, np.int64).reshape(-1, inner)
        count = len(nodes)
        thresholds = np.asarray(self.thresholds, np.float64).reshape(count, inner)
        leaves = np.asarray(self.leaves, np.float64).reshape(count, outer, len(base))
        if count and not (nodes.min() >= 0 and nodes.max() < len(self.features)):
            raise ValueError("rules of features that there are not")
        offsets = {int(key): np.asarray(value, np.float64) for key, value in self.categories.items()}
        if any(value.shape != base.shape for value in offsets.values()):
            raise ValueError("offsets of a category that do not fit")
        if not all(np.isfinite(array).all() for array in (base, thresholds, leaves, *offsets.values())):
            raise ValueError("rules that hold numbers that are not finite")
        for name, value in (("base", base), ("nodes", nodes), ("thresholds", thresholds), ("leaves", leaves)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "categories", offsets)

    @property
    def outputs(self) -> int:
        """How many settings there are rules for."""
        return len(self.base)

    @classmethod
    def constant(cls, names: Sequence[str], gains: ArrayLike) -> Rules:
        """Rules without trees, which expect the same `gains` (O,) of every instance."""
        none = np.zeros(0)
        return cls(tuple(names), np.asarray(gains, np.float64), none.astype(np.int64), none, none, {})

    def predict(self, features: ArrayLike, categories: ArrayLike) -> NDArray[np.float64]:
        """Gains (N, O) to expect for features (N, F) and category ids (N,)."""
        values = np.asarray(features, np.float64)
        trees = np.arange(len(self.nodes))
        leaf = np.zeros((len(values), len(trees)), np.int64)
        for level in range(DEPTH):
            node = 2**level - 1 + leaf
            seen = np.take_along_axis(values, self.nodes[trees, node], axis=1)
            leaf = 2 * leaf + (seen >= self.thresholds[trees, node])
        gains: NDArray[np.float64] = self.base + self.leaves[trees, leaf].sum(axis=1)
        for row, category in enumerate(np.asarray(categories).tolist()):
            if category in self.categories:
                gains[row] += self.categories[category]
        return gains

    @classmethod
    def fit(
        cls,
        names: Sequence[str],
        features: ArrayLike,
        gains: NDArray[np.float64],
        *,
        weights: NDArray[np.float64] | None = None,
        categories: NDArray[np.int64] | None = None,
        trees: int = 80,
        rate: float = 0.08,
        least: int = 15,
        category_min: int = 100,
        seed: int = 0,
    ) -> Rules:
        """Boosting on the squared error, each tree on a random six tenths of the instances.

        Args:
            names: of the features.
            features: (N, F).
            gains: (N, O), what was measured.
            weights: (N,), how much each instance counts; by default 1.
            categories: (N,) ids; those with at least `category_min` instances get offsets of their own.
            trees, rate: how many, and the share of each that is taken.
            least: no leaf has fewer instances.
            category_min: see `categories`.
            seed: of the random parts.
        """
        values = np.asarray(features, np.float64)
        count = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
        rng = np.random.default_rng(seed)
        base = (gains * count[:, None]).sum(0) / count.sum()
        left = gains - base
        grown: list[_Tree] = []
        for _ in range(trees):
            chosen = rng.random(len(values)) < 0.6
            tree = _Tree.grow(values[chosen], left[chosen], count[chosen], least)
            tree.leaves *= rate
            grown.append(tree)
            left = left - tree.predict(values)
        offsets: dict[int, NDArray[np.float64]] = {}
        for key in [] if categories is None else np.unique(categories).tolist():
            own = categories == key
            if own.sum() >= category_min:
                offsets[key] = (left[own] * count[own, None]).sum(0) / (count[own].sum() + category_min)
        return cls(
            tuple(names),
            base,
            np.array([tree.nodes for tree in grown]),
            np.array([tree.thresholds for tree in grown]),
            np.array([tree.leaves for tree in grown]),
            offsets,
        )

    def to_toml(self, table: str = "rules") -> str:
        """A TOML table of that name; numbers to six digits, which is what `rounded` keeps."""
        lines = [f"[{table}]", f"features = {json.dumps(list(self.features))}", f"base = {_numbers(self.base)}"]
        for name in ("nodes", "thresholds", "leaves"):
            rows = "".join(f"  {_numbers(tree.ravel())},\n" for tree in getattr(self, name))
            lines.append(f"{name} = [\n{rows}]")
        if self.categories:
            lines += ["", f"[{table}.categories]"]
            lines += [f"{key} = {_numbers(value)}" for key, value in self.categories.items()]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rules:
        """From the table that `to_toml` wrote; ValueError, KeyError or TypeError where it is not sound."""
        base, thresholds, leaves = (np.array(values[name], np.float64) for name in ("base", "thresholds", "leaves"))
        nodes = np.array(values["nodes"], np.int64)
        categories = {int(key): value for key, value in values.get("categories", {}).items()}
        return cls(tuple(str(name) for name in values["features"]), base, nodes, thresholds, leaves, categories)

    def rounded(self) -> Rules:
        """The rules as a file holds them."""
        import tomllib

        return self.from_dict(tomllib.loads(self.to_toml())["rules"])


@dataclass
class _Tree:
    """One tree while it grows; see `Rules` for its parts."""

    nodes: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    leaves: NDArray[np.float64]

    @classmethod
    def grow(
        cls, values: NDArray[np.float64], gains: NDArray[np.float64], count: NDArray[np.float64], least: int
    ) -> _Tree:
        inner = 2**DEPTH - 1
        tree = cls(np.zeros(inner, np.int64), np.full(inner, _NEVER), np.zeros((inner + 1, gains.shape[1])))
        groups = [np.arange(len(values))]
        for level in range(DEPTH):
            parts = []
            for k, rows in enumerate(groups):
                split = _best_split(values[rows], gains[rows], count[rows], least)
                right = np.zeros(len(rows), bool)
                if split is not None:
                    node = 2**level - 1 + k
                    tree.nodes[node], tree.thresholds[node] = split
                    right = values[rows, split[0]] >= split[1]
                parts += [rows[~right], rows[right]]
            groups = parts
        for k, rows in enumerate(groups):
            tree.leaves[k] = (gains[rows] * count[rows, None]).sum(0) / (count[rows].sum() + _PRIOR)
        return tree

    def predict(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        leaf, rows = np.zeros(len(values), np.int64), np.arange(len(values))
        for level in range(DEPTH):
            node = 2**level - 1 + leaf
            leaf = 2 * leaf + (values[rows, self.nodes[node]] >= self.thresholds[node])
        return self.leaves[leaf]


def _best_split(
    values: NDArray[np.float64], gains: NDArray[np.float64], count: NDArray[np.float64], least: int
) -> tuple[int, float] | None:
    """Feature and threshold whose two sides explain most of the gains; None where no side could be large enough."""
    best: tuple[float, int, float] | None = None
    for feature in range(values.shape[1]):
        order = np.argsort(values[:, feature], kind="stable")
        x, weight = values[order, feature], count[order].cumsum()
        total = (gains[order] * count[order, None]).cumsum(0)
        cut = np.arange(least, len(x) - least + 1)
        cut = cut[x[cut - 1] < x[np.minimum(cut, len(x) - 1)]] if len(cut) else cut
        cut = cut[cut < len(x)]
        if not len(cut):
            continue
        low, below = total[cut - 1], weight[cut - 1]
        high, above = total[-1] - low, weight[-1] - below
        score = (low**2).sum(1) / (below + _PRIOR) + (high**2).sum(1) / (above + _PRIOR)
        k = int(np.argmax(score))
        if best is None or score[k] > best[0]:
            threshold = float(f"{(x[cut[k] - 1] + x[cut[k]]) / 2:.{_DIGITS}g}")
            best = float(score[k]), feature, threshold
    return None if best is None else (best[1], best[2])


def _numbers(values: NDArray[Any]) -> str:
    whole = np.issubdtype(values.dtype, np.integer)
    # "+ 0.0": minus zero is zero; a TOML float needs a point or an exponent.
    return "[" + ", ".join(str(int(v)) if whole else repr(float(f"{v:.{_DIGITS}g}") + 0.0) for v in values) + "]"
