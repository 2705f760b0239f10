"""The permutohedral lattice on torch tensors, on any device (extra ``torch``); ties and order as in `lattice`.

Vertices are known by keys, which are sorted; a vertex's neighbours are found by bisection, and the points of a vertex
lie side by side in the sorted order. So every sum has a fixed order: no atomics, the same bits in every run.
"""

from __future__ import annotations

import numpy as np

from crispmask.crf.lattice import MAX_DIMENSION, _radices, _scale
from crispmask.errors import MissingExtraError, ShapeError

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError:
    raise MissingExtraError("torch", "torch") from None

from crispmask.crf import _tensor_kernels

# Keys of one 64-bit word are exact below; beyond, they are hashes, which are checked.
_MAX_RADIX = 2**62


class TorchLattice:
    """Filter with k(f_i, f_j) = exp(-|f_i - f_j|²/2), approximately, where the tensors are.

    A. Adams, J. Baek and A. Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", 2010.
    The values are those of `PermutohedralLattice` up to the rounding of sums. Here points come first: (N, d), (N, C).

    Args:
        features: float32 or float64 (N, d), already divided by the bandwidths. Where they require gradients, `weights`
            are a differentiable function of them.
        groups: int64 (N,), not negative: points of different groups do not see each other (windows of a photo, items
            of a batch); None for one group.

    Attributes:
        dimension: d.
        size: N.
        vertices: M.
        corners: int32 (N, d + 1), the vertices of the simplex around each point.
        weights: (N, d + 1), the point's barycentric weights for them, in the features' dtype.
        around: int32 (d + 1, M, 2), each vertex's neighbours along each axis, M where there is none.
        alpha: 1 / (1 + 2^-d), the factor that the filter ends with.

    Raises:
        ShapeError: features that are not (N, d) with d from 1 to 64, or too many; groups of another shape.
        ValueRangeError: NaN or infinite features, or so large that they cannot be placed.
    """

    def __init__(self, features: Tensor, groups: Tensor | None = None) -> None:
        if features.ndim != 2 or not 1 <= features.shape[1] <= MAX_DIMENSION:
            raise ShapeError(
                f"features must have shape (N, d) with d from 1 to {MAX_DIMENSION}, got {tuple(features.shape)}"
            )
        self.size, self.dimension = features.shape
        if self.size * (self.dimension + 1) >= 2**31:
            raise ShapeError(f"features must hold fewer than 2^31 / (d + 1) points, got {self.size}")
        if groups is not None and groups.shape != features.shape[:1]:
            raise ShapeError(f"groups must have shape ({self.size},), got {tuple(groups.shape)}")
        features = features if features.dtype == torch.float64 else features.float()
        self.alpha = 1 / (1 + 2.0**-self.dimension)
        radices = [1] * self.dimension
        if self.size:  # refuses features that cannot be placed
            extremes = torch.stack(torch.aminmax(features.detach(), dim=0), 1)
            radices = _radices(extremes.to(torch.float32).cpu().numpy(), _scale(self.dimension))
        self._kernels = _tensor_kernels.for_device(features.device)
        self._number_vertices(radices, features, groups)

    def _number_vertices(self, radices: list[int], features: Tensor, groups: Tensor | None) -> None:
        """Fill weights, corners, around and what splats."""
        D, device = self.dimension + 1, features.device
        if self.size == 0:
            self.vertices = 0
            self.weights, self._shares = features.new_empty(0, D), features.new_empty(0)
            self._ranks = torch.empty(0, D, dtype=torch.int8, device=device)
            self.corners = torch.empty(0, D, dtype=torch.int32, device=device)
            self.around = torch.empty(D, 0, 2, dtype=torch.int32, device=device)
            self._points = self._owners = self.corners[:, 0]
            self._starts = torch.zeros(1, dtype=torch.int32, device=device)
            return
        strides = _strides(radices, 1 if groups is None else int(groups.max()) + 1)
        self.weights, self._ranks, words = self._kernels.simplices(features, strides, groups)
        for attempt in range(100):
            multiplier = [1] if len(words) == 1 else _multipliers(len(words), attempt)
            keys = words[0] if len(words) == 1 else sum(w * m for w, m in zip(words, multiplier, strict=True))
            ordered, order = torch.sort(keys, stable=True)
            new = torch.ones_like(ordered, dtype=torch.bool)
            torch.ne(ordered[1:], ordered[:-1], out=new[1:])
            first = torch.nonzero(new)[:, 0]
            number = torch.cumsum(new, 0, dtype=torch.int32) - 1
            corners = torch.empty_like(number).scatter_(0, order, number)
            places = order[first]
            if len(words) == 1 or bool((words == words[:, places][:, corners]).all()):
                break
        self.vertices = len(first)
        self.corners = corners.view(self.size, D)
        # Vertex by vertex the points whose corner it is, and their weights for it.
        self._points = torch.div(order, D, rounding_mode="floor").to(torch.int32)
        self._shares = self.weights.detach().reshape(-1)[order]
        self._starts = torch.cat([first, first.new_full((1,), len(ordered))]).to(torch.int32)
        self._owners = number
        # The key of a vertex one step along an axis is its own plus a constant.
        d = self.dimension
        word_steps = [[sum(row[:d]) - D * (row[j] if j < d else 0) for j in range(D)] for row in strides]
        steps = [
            _wrap(sum(s * m for s, m in zip(some, multiplier, strict=True))) for some in zip(*word_steps, strict=True)
        ]
        tensor = torch.tensor([steps, *word_steps], device=device)
        self.around = self._kernels.neighbours(ordered[first], words[:, places], tensor[0], tensor[1:])

    def filter(self, values: Tensor) -> Tensor:
        """K applied to every channel, the term of the point itself included; K is not normalised.

        Args:
            values: (N, C), in the dtype of the features.

        Returns:
            (N, C). No gradients; see `crispmask.crf.layer`.
        """
        return self.slice(self.blur(self.splat(values)))

    def transpose_filter(self, values: Tensor) -> Tensor:
        """The transpose of K, which blurs along the axes in the opposite order; otherwise as `filter`."""
        return self.slice(self.blur(self.splat(values), reverse=True))

    def splat(self, values: Tensor) -> Tensor:
        """Values (N, C) spread over the vertices: (M + 1, C), the last row zero."""
        self._check(values, self.size)
        given = values.detach().contiguous(), self._points, self._shares, self._starts, self._owners
        return self._kernels.splat(*given)

    def blur(self, values: Tensor, *, reverse: bool = False) -> Tensor:
        """Vertex values (M + 1, C), blurred with (1/2, 1, 1/2) along every axis; overwrites the input."""
        self._check(values, self.vertices + 1)
        return self._kernels.blur(values, self.around, reverse)

    def slice(self, values: Tensor) -> Tensor:
        """Vertex values (M + 1, C) read at the points, times alpha: (N, C)."""
        self._check(values, self.vertices + 1)
        return self._kernels.slice(values, self.corners, self.weights.detach(), self.alpha)

    def diagonal(self) -> Tensor:
        """K(i, i) for every point: (N,), differentiable as `weights` are. An isolated point has 0.6 to 0.9.

        The corners of a simplex form a cycle; blurring leads from one to another along either arc of it, over the
        arc's axes in rising order, with one half per step, if every vertex in between exists.
        """
        D, corners = self.dimension + 1, self.corners.long()
        weights, around = self.weights, self.around.long()
        if self.size == 0:
            return weights.new_zeros(0)
        simplices, index = torch.unique(corners, dim=0, return_inverse=True)
        # The axis between corners m and m + 1 is that of rank d - m; the same for all points of a simplex.
        representative = torch.empty(len(simplices), dtype=torch.int64, device=corners.device)
        representative[index] = torch.arange(self.size, device=corners.device)
        axis = torch.argsort(self._ranks[representative], dim=1).flip(1)
        sink = around.new_full((D, 1, 2), self.vertices)
        around = torch.cat([around, sink], 1)
        between = weights.new_zeros(len(simplices), D, D)
        for m in range(D):
            between[:, m, m] += 1
            for side in range(2):
                for length in range(1, D + 1):
                    turn = range(m, m + length) if side == 0 else range(m - length, m)
                    arc = axis[:, [t % D for t in turn]].sort(1).values
                    vertex = simplices[:, m]
                    for a in range(length):
                        vertex = around[arc[:, a], vertex, side]
                    end = (m + length if side == 0 else m - length) % D
                    between[:, m, end] += 0.5**length * (vertex != self.vertices)
        return self.alpha * torch.einsum("nm,nmk,nk->n", weights, between[index], weights)

    def _check(self, values: Tensor, rows: int) -> None:
        if values.ndim != 2 or len(values) != rows or values.dtype != self.weights.dtype:
            raise ShapeError(
                f"values must be {self.weights.dtype} of shape ({rows}, channels), "
                f"got {values.dtype} {tuple(values.shape)}"
            )


def _strides(radices: list[int], groups: int) -> list[list[int]]:
    """Mixed radix over the coordinates and, last, the groups: one row of factors per 64-bit word."""
    words, radix = [[0] * (len(radices) + 1)], 1
    for j, size in enumerate([*radices, groups]):
        if radix * size > _MAX_RADIX:
            words.append([0] * (len(radices) + 1))
            radix = 1
        words[-1][j] = radix
        radix *= size
    return words


def _multipliers(count: int, seed: int) -> list[int]:
    """Odd 64-bit numbers, as signed ones, that make one word of several."""
    rng = np.random.default_rng(seed)
    return [int(m) | 1 for m in rng.integers(-(2**63), 2**63 - 1, count)]


def _wrap(number: int) -> int:
    """Modulo 2^64, as a signed 64-bit number."""
    return (number + 2**63) % 2**64 - 2**63
