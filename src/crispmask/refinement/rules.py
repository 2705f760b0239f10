"""Rules: small decision trees whose sum predicts numbers from the features of an instance.

They are fitted by gradient boosting (Friedman, 2001) in `crispmask.training.refiner`; here they only predict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

DEPTH = 3
_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Rules:
    """Trees of depth `DEPTH`: at each node an instance goes right where its feature is at or above the threshold.

    Attributes:
        features: names of the F inputs.
        base: float64 (O,), each output before the trees.
        nodes: int64 (T, 2**DEPTH - 1), the feature that each node looks at, breadth first.
        thresholds: float64 (T, 2**DEPTH - 1).
        leaves: float64 (T, 2**DEPTH), what each leaf adds, from left to right,
        targets: int64 (T,), and to which output.
    """

    features: tuple[str, ...]
    base: NDArray[np.float64]
    nodes: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    leaves: NDArray[np.float64]
    targets: NDArray[np.int64]

    def __post_init__(self) -> None:
        inner, outer = 2**DEPTH - 1, 2**DEPTH
        base = np.asarray(self.base, np.float64).reshape(-1)
        nodes = np.asarray(self.nodes, np.int64).reshape(-1, inner)
        count = len(nodes)
        thresholds = np.asarray(self.thresholds, np.float64).reshape(count, inner)
        leaves = np.asarray(self.leaves, np.float64).reshape(count, outer)
        targets = np.asarray(self.targets, np.int64).reshape(count)
        if count and not (nodes.min() >= 0 and nodes.max() < len(self.features)):
            raise ValueError("rules of features that there are not")
        if count and not (targets.min() >= 0 and targets.max() < len(base)):
            raise ValueError("rules for outputs that there are not")
        if not all(np.isfinite(array).all() for array in (base, thresholds, leaves)):
            raise ValueError("rules that hold numbers that are not finite")
        arrays = {"base": base, "nodes": nodes, "thresholds": thresholds, "leaves": leaves, "targets": targets}
        for name, value in arrays.items():
            object.__setattr__(self, name, value)

    @property
    def outputs(self) -> int:
        """Numbers that are predicted."""
        return len(self.base)

    @classmethod
    def constant(cls, names: Sequence[str], outputs: ArrayLike) -> Rules:
        """Rules without trees, which predict the same `outputs` (O,) for every instance."""
        none = np.zeros(0)
        whole = none.astype(np.int64)
        return cls(tuple(names), np.asarray(outputs, np.float64), whole, none, none, whole)

    def predict(self, features: ArrayLike) -> NDArray[np.float64]:
        """Outputs (N, O) for features (N, F)."""
        values = np.asarray(features, np.float64)
        trees = np.arange(len(self.nodes))
        leaf = np.zeros((len(values), len(trees)), np.int64)
        for level in range(DEPTH):
            node = 2**level - 1 + leaf
            seen = np.take_along_axis(values, self.nodes[trees, node], axis=1)
            leaf = 2 * leaf + (seen >= self.thresholds[trees, node])
        added = self.leaves[trees, leaf]
        sums = [added[:, self.targets == output].sum(axis=1) for output in range(self.outputs)]
        found: NDArray[np.float64] = self.base + np.stack(sums, axis=1)
        return found

    def to_toml(self, table: str = "rules") -> str:
        """A TOML table of that name; numbers to six digits, which is what `rounded` keeps."""
        lines = [f"[{table}]", f"features = {json.dumps(list(self.features))}"]
        lines += [f"{name} = {_numbers(getattr(self, name))}" for name in ("base", "targets")]
        for name in ("nodes", "thresholds", "leaves"):
            rows = "".join(f"  {_numbers(tree)},\n" for tree in getattr(self, name))
            lines.append(f"{name} = [\n{rows}]")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rules:
        """From the table that `to_toml` wrote; ValueError, KeyError or TypeError where it is not sound."""
        base, thresholds, leaves = (np.array(values[name], np.float64) for name in ("base", "thresholds", "leaves"))
        nodes, targets = (np.array(values[name], np.int64) for name in ("nodes", "targets"))
        return cls(tuple(str(name) for name in values["features"]), base, nodes, thresholds, leaves, targets)

    def rounded(self) -> Rules:
        """The rules as a file holds them."""
        import tomllib

        return self.from_dict(tomllib.loads(self.to_toml())["rules"])


def _numbers(values: NDArray[Any]) -> str:
    whole = np.issubdtype(values.dtype, np.integer)
    # "+ 0.0": minus zero is zero; a TOML float needs a point or an exponent.
    return "[" + ", ".join(str(int(v)) if whole else repr(float(f"{v:.{_DIGITS}g}") + 0.0) for v in values) + "]"
