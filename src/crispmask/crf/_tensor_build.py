"""How points are placed on the permutohedral lattice, in plain PyTorch: simplices, weights, keys and neighbours.

The order of operations is that of the compiled loops, so that all roundings and ties are theirs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crispmask.crf.lattice import _scale


def simplices(features: Tensor, strides: list[list[int]], groups: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex around each point.

    Args:
        features: (N, d).
        strides: of each word of the keys, the factors of the first d lattice coordinates and, last, of the group.
        groups: int64 (N,), or None.

    Returns:
        The barycentric weights (N, d + 1), differentiable, the simplex being held fixed; the ranks of the axes, int8
        (N, d + 1); the keys of the corners, int64 (words, N * (d + 1)).
    """
    elevated = torch.stack(_elevate(features))
    nearest, rank = _place(elevated.detach())
    weights = _barycentric(elevated, nearest, rank)
    keys = torch.stack([_corner_keys(row, nearest, rank, groups) for row in strides])
    return weights, rank.T.to(torch.int8), keys


def neighbours(own: Tensor, words: Tensor, steps: Tensor, word_steps: Tensor) -> Tensor:
    """Each vertex's neighbours along each axis: int32 (d + 1, M, 2), M where there is none.

    Args:
        own: int64 (M,), the vertices' keys, in rising order.
        words: int64 (words, M), what the keys were made of.
        steps: int64 (d + 1,), what is added to a key for one step along an axis.
        word_steps: int64 (words, d + 1), the same for the words.
    """
    vertices = len(own)
    found = torch.empty(len(steps), vertices, 2, dtype=torch.int32, device=own.device)
    for j in range(len(steps)):
        for side, sign in enumerate((1, -1)):
            wanted = own + sign * steps[j]
            there = torch.searchsorted(own, wanted).clamp_(max=vertices - 1)
            exists = own[there] == wanted
            if len(words) > 1:
                exists &= (words[:, there] == words + sign * word_steps[:, j, None]).all(0)
            found[j, :, side] = torch.where(exists, there, vertices)
    return found


def inverse(D: int, dtype: torch.dtype) -> float:
    """1 / D, rounded as the CPU's does."""
    return float(np.float32(1.0 / D)) if dtype == torch.float32 else 1.0 / D


def _elevate(features: Tensor) -> list[Tensor]:
    """Coordinates on the hyperplane of zero sum, d + 1 times (N,)."""
    scale = [float(s) for s in _scale(features.shape[1])]
    total = torch.zeros_like(features[:, 0])
    elevated = []
    for j in range(len(scale), 0, -1):
        g = features[:, j - 1] * scale[j - 1]
        elevated.append(total - j * g)
        total = total + g
    return [total, *reversed(elevated)]


def _place(e: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest lattice points of remainder zero and the ranks of the axes: int64 (d + 1, N) both."""
    D = len(e)
    rounded = torch.round(e * inverse(D, e.dtype))
    nearest = rounded * D
    residual = e - nearest
    # On ties the later axis ranks higher: a stable sort in falling order.
    order = torch.sort(residual, dim=0, descending=True, stable=True).indices
    places = torch.arange(D, device=e.device)[:, None].expand(order.shape)
    rank = torch.empty_like(order).scatter_(0, order, places) + rounded.sum(0).to(torch.int64)
    shift = D * (rank < 0).to(torch.int64) - D * (rank >= D).to(torch.int64)
    return nearest.to(torch.int64) + shift, rank + shift


def _barycentric(e: Tensor, nearest: Tensor, rank: Tensor) -> Tensor:
    """The weights (N, d + 1)."""
    D = len(e)
    residual = (e - nearest.to(e.dtype)) * inverse(D, e.dtype)
    ranked = torch.zeros_like(residual).scatter(0, rank, residual)
    first = ranked[D - 1] + (1 - ranked[0])
    return torch.stack([first, *(ranked[D - 1 - m] - ranked[D - m] for m in range(1, D))], 1)


def _corner_keys(stride: list[int], nearest: Tensor, rank: Tensor, groups: Tensor | None) -> Tensor:
    """One word of the keys of all corners, int64 (N * (d + 1),)."""
    d, size = len(nearest) - 1, nearest.shape[1]
    digits = torch.tensor([*stride[:d], 0], device=nearest.device)
    key = torch.zeros(size, dtype=torch.int64, device=nearest.device)
    for j in range(d):
        if stride[j]:
            key += nearest[j] * stride[j]
    if groups is not None and stride[d]:
        key += groups.to(torch.int64) * stride[d]
    # From corner m - 1 to m: one step up on all axes, down by d + 1 on the axis whose rank is d + 1 - m.
    by_rank = torch.empty(d + 1, size, dtype=torch.int64, device=nearest.device)
    by_rank.scatter_(0, rank, digits[:, None].expand(d + 1, size))
    keys = torch.empty(size, d + 1, dtype=torch.int64, device=nearest.device)
    keys[:, 0] = key
    for m in range(1, d + 1):
        key = key + (sum(stride[:d]) - (d + 1) * by_rank[d + 1 - m])
        keys[:, m] = key
    return keys.view(-1)
