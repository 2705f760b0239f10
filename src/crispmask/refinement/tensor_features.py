"""`instance_features`, and where an object and its mask lie in the crop, of many answers of the mask network at once.

Cells are counted on the device; what follows from the counts is computed on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispmask.refinement.answer import POSSIBLE
from crispmask.refinement.features import known_before
from crispmask.refinement.instance import InstanceView
from crispmask.refinement.windows import Rect


def looked_at(
    views: Sequence[InstanceView], prompts: Tensor, odds: Tensor
) -> tuple[NDArray[np.float32], list[bool], list[Rect], list[Rect]]:
    """What the gate and the CRF need to know of answers, in one transfer from the device.

    Args:
        views: N instances.
        prompts, odds: of each, (N, S, S).

    Returns:
        The numbers of `FEATURES`, float32 (N, F); whether the network finds an object; the bounds of the masks, and of
        the cells in which the objects may be, as `answer.bounds` gives them.
    """
    inside, chosen, probabilities = prompts > 0.5, odds > 0, torch.sigmoid(odds)
    edge, differ, far = _edge(inside), inside != chosen, odds.abs()
    masks = torch.stack(
        [
            edge,
            _edge(chosen),
            differ,
            differ & (far > 2),
            inside | chosen,
            inside,
            chosen,
            (prompts > 0.1) & (prompts < 0.9),
            (probabilities > 0.1) & (probabilities < 0.9),
        ],
        1,
    )
    sums = torch.stack([probabilities, probabilities * inside, probabilities * chosen], 1)
    maps = torch.stack([chosen, odds > POSSIBLE], 1)
    parts = [masks.flatten(2).sum(2), sums.flatten(2).sum(2), _median(far, edge), maps.any(3), maps.any(2)]
    told = torch.cat([part.flatten(1).to(odds.dtype) for part in parts], 1).cpu().numpy()
    counts, lines = told[:, :13].astype(np.float64).T, told[:, 13:].reshape(len(odds), 2, 2, -1) > 0
    length, own_length, differing, sure, union, before, after, undecided, doubt, total, kept, own, median = counts
    length, own_length = np.maximum(length, 1), np.maximum(own_length, 1)
    expected = _share(own, after + total - own)
    columns = (
        undecided / length,
        doubt / own_length,
        _share(differing, union),
        differing / length,
        expected,
        expected - _share(kept, before + total - kept),
        median,
        _share(sure, differing),
        length / own_length,
    )
    features = np.column_stack([[known_before(view) for view in views], *columns]).astype(np.float32)
    return features, (after > 0).tolist(), *(_bounds(lines[:, :, k]) for k in (0, 1))


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _edge(inside: Tensor) -> Tensor:
    edge = torch.zeros_like(inside)
    edge[:, :, :-1] |= inside[:, :, :-1] != inside[:, :, 1:]
    edge[:, :-1] |= inside[:, :-1] != inside[:, 1:]
    return edge


def _median(values: Tensor, where: Tensor) -> Tensor:
    """The median of each map's chosen values, (N, 1); 0 where none is chosen."""
    ordered = torch.where(where, values, math.inf).flatten(1).sort(1).values
    count = where.flatten(1).sum(1, keepdim=True)
    middle = torch.cat([(count - 1).clamp(min=0) // 2, count // 2], 1)
    return torch.where(count > 0, ordered.gather(1, middle).mean(1, keepdim=True), 0)


def _bounds(lines: NDArray[np.bool_]) -> list[Rect]:
    """`answer.bounds` of maps, from which of their rows and columns hold anything: bool (N, 2, S)."""
    first, last = lines.argmax(2), lines.shape[2] - lines[:, :, ::-1].argmax(2)
    return [Rect(y0, x0, y1, x1) for (y0, x0), (y1, x1) in zip(first.tolist(), last.tolist(), strict=True)]
