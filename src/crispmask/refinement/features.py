"""What an instance looks like to the gate: a few numbers from its prompt and the network's answer."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispmask.refinement.answer import Answer
from crispmask.refinement.instance import InstanceView

FEATURES = (
    "size",  # log2 of the square root of the box's area, pixels of the image
    "cell",  # log2 of the pixels of the image per cell of the crop
    "binary",  # 1 where the mask came without probabilities, else 0
    "undecided",  # cells with probabilities from 0.1 to 0.9 in the prompt, per cell of its edge
    "doubt",  # the same of the answer
    "change",  # 1 - IoU of prompt and answer
    "depth",  # cells in which they differ, per cell of the prompt's edge
    "expected",  # IoU that the answer's mask has, if its probabilities are right
    "promise",  # by how much that is more than the prompt's
    "edge",  # median distance of the answer's log-odds from zero along the prompt's edge
    "flips",  # share of the differing cells that the answer is sure of: log-odds beyond 2
    "outline",  # cells of the prompt's edge, per cell of the answer's
)


def instance_features(view: InstanceView, answer: Answer) -> NDArray[np.float32]:
    """The numbers of `FEATURES`, float32 (F,)."""
    cells = Cells.of(answer.prompt, answer.odds)
    length, own_length = max(1, cells.edge), max(1, cells.own_edge)
    expected = _share(cells.own_mass, cells.after + cells.mass - cells.own_mass)
    values = (
        *known_before(view),
        cells.undecided / length,
        cells.doubt / own_length,
        _share(cells.differing, cells.union),
        cells.differing / length,
        expected,
        expected - _share(cells.kept_mass, cells.before + cells.mass - cells.kept_mass),
        cells.median,
        _share(cells.sure, cells.differing),
        length / own_length,
    )
    return np.array(values, np.float32)


def known_before(view: InstanceView) -> tuple[float, float, float]:
    """Those of the numbers that need no answer, which come first: size, cell, binary."""
    return math.log2(view.scale), math.log2(view.crop.side / view.crop.size), float(view.binary)


class Cells(NamedTuple):
    """What is counted in a prompt and in an answer.

    Attributes:
        edge, own_edge: cells of the prompt's mask, and of the answer's, whose right or lower neighbour lies on the
            other side.
        differing: cells in which the masks differ.
        sure: those of them with log-odds beyond 2.
        union, before, after: cells of either mask, of the prompt's, of the answer's.
        undecided, doubt: cells with probabilities from 0.1 to 0.9 in the prompt, in the answer.
        mass, kept_mass, own_mass: sums of the answer's probabilities: all, within the prompt's mask, within its own.
        median: of the answer's log-odds, without sign, along the prompt's edge; 0 where it has none.
    """

    edge: int
    own_edge: int
    differing: int
    sure: int
    union: int
    before: int
    after: int
    undecided: int
    doubt: int
    mass: float
    kept_mass: float
    own_mass: float
    median: float

    @classmethod
    def of(cls, prompt: NDArray[np.float32], odds: NDArray[np.float32]) -> Cells:
        """Of a prompt and the network's log-odds, both float32 (S, S)."""
        from crispmask.refinement._feature_kernels import measure

        counts, sums, far = np.empty(9, np.int64), np.empty(3), np.empty(odds.size, np.float32)
        measure(prompt, odds, counts, sums, far)
        median = float(np.median(far[: counts[0]])) if counts[0] else 0.0
        return cls._make([*counts.tolist(), *sums.tolist(), median])


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
