"""What an instance looks like to the gate: a few numbers from its prompt and the network's answer."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crispmask.refinement.answer import Answer
from crispmask.refinement.instance import InstanceView
from crispmask.refinement.unary import sigmoid

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
    prompt, odds = answer.prompt, answer.odds
    inside, chosen = prompt > 0.5, answer.mask
    probabilities = sigmoid(odds)
    edge, own_edge = _edge(inside), _edge(chosen)
    length, own_length = max(1.0, float(edge.sum())), max(1.0, float(own_edge.sum()))
    differ = inside != chosen
    union = float((inside | chosen).sum())
    expected = _expected_iou(chosen, probabilities)
    values = (
        *known_before(view),
        float(((prompt > 0.1) & (prompt < 0.9)).sum()) / length,
        float(((probabilities > 0.1) & (probabilities < 0.9)).sum()) / own_length,
        float(differ.sum()) / union if union else 0.0,
        float(differ.sum()) / length,
        expected,
        expected - _expected_iou(inside, probabilities),
        float(np.median(np.abs(odds[edge]))) if edge.any() else 0.0,
        float((np.abs(odds[differ]) > 2).mean()) if differ.any() else 0.0,
        length / own_length,
    )
    return np.array(values, np.float32)


def known_before(view: InstanceView) -> tuple[float, float, float]:
    """Those of the numbers that need no answer, which come first: size, cell, binary."""
    return math.log2(view.scale), math.log2(view.crop.side / view.crop.size), float(view.binary)


def _expected_iou(mask: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> float:
    """Expected overlap over expected union of a mask, if its pixels are right with these probabilities."""
    inside = float(probabilities[mask].sum())
    union = float(mask.sum()) + float(probabilities[~mask].sum())
    return inside / union if union else 0.0


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells whose right or lower neighbour lies on the other side."""
    edge = np.zeros_like(inside)
    edge[:, :-1] |= inside[:, :-1] != inside[:, 1:]
    edge[:-1] |= inside[:-1] != inside[1:]
    return edge
