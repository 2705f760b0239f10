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
        starts: int32 (M + 1,), where in `members` each vertex's entries begin.
        members: int32 (N * (d + 1),), vertex by vertex the entries of `corners`, as places in the flat array.
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
            extremes = torch.stack([features.detach().amin(0), features.detach().amax(0)], 1)
            radices = _radices(extremes.to(torch.float32).cpu().numpy(), _scale(self.dimension))
        elevated = _elevate(features)
        nearest, self._rank = _place([e.detach() for e in elevated])
        self.weights = _barycentric(elevated, nearest, self._rank)
        self._number_vertices(radices, nearest, groups)
        self._kernels = _tensor_kernels.for_device(features.device)

    def _number_vertices(self, radices: list[int], nearest: Tensor, groups: Tensor | None) -> None:
        """Fill corners, around, starts and members."""
        d, device = self.dimension, nearest.device
        if self.size == 0:
            self.vertices = 0
            self.corners = torch.empty(0, d + 1, dtype=torch.int32, device=device)
            self.around = torch.empty(d + 1, 0, 2, dtype=torch.int32, device=device)
            self.members = torch.empty(0, dtype=torch.int32, device=device)
            self.starts = torch.zeros(1, dtype=torch.int32, device=device)
            return
        most = 0 if groups is None else int(groups.max())
        strides = _strides(radices, most + 1)
        words = [self._corner_keys(row, nearest, groups) for row in strides]
        for attempt in range(100):
            multiplier = _multipliers(len(words), attempt)
            keys = words[0] if len(words) == 1 else sum(w * m for w, m in zip(words, multiplier, strict=True))
            ordered, order = torch.sort(keys, stable=True)
            new = torch.ones_like(ordered, dtype=torch.bool)
            torch.ne(ordered[1:], ordered[:-1], out=new[1:])
            first = torch.nonzero(new)[:, 0]
            number = torch.cumsum(new, 0) - 1
            corners = torch.empty_like(number).scatter_(0, order, number)
            if len(words) == 1 or all(bool((w == w[order[first]][corners]).all()) for w in words):
                break
        self.vertices = len(first)
        self.corners = corners.to(torch.int32).view(self.size, d + 1)
        self.members = order.to(torch.int32)
        end = first.new_full((1,), len(ordered))
        self.starts = torch.cat([first, end]).to(torch.int32)
        # Neighbours: the key of a vertex one step along an axis is its own plus a constant.
        place = order[first]
        own, found = ordered[first], torch.empty(d + 1, self.vertices, 2, dtype=torch.int32, device=device)
        own_words = [w[place] for w in words] if len(words) > 1 else []
        for j in range(d + 1):
            steps = [sum(row[:d]) - (d + 1) * (row[j] if j < d else 0) for row in strides]
            step = steps[0] if len(words) == 1 else _wrap(sum(s * m for s, m in zip(steps, multiplier, strict=True)))
            for side, sign in enumerate((1, -1)):
                wanted = own + sign * step
                there = torch.searchsorted(own, wanted).clamp_(max=self.vertices - 1)
                exists = own[there] == wanted
                for word, s in zip(own_words, steps, strict=False):
                    exists &= word[there] == word + sign * s
                found[j, :, side] = torch.where(exists, there, self.vertices)
        self.around = found

    def _corner_keys(self, stride: list[int], nearest: Tensor, groups: Tensor | None) -> Tensor:
        """One word of the keys of all corners, int64 (N * (d + 1),); the group is the digit after the coordinates."""
        d = self.dimension
        digits = torch.tensor([*stride[:d], 0], device=nearest.device)
        key = torch.zeros(self.size, dtype=torch.int64, device=nearest.device)
        for j in range(d):
            if stride[j]:
                key += nearest[j] * stride[j]
        if groups is not None and stride[d]:
            key += groups.to(torch.int64) * stride[d]
        # From corner m - 1 to m: one step up on all axes, down by d + 1 on the axis whose rank is d + 1 - m.
        by_rank = torch.empty(d + 1, self.size, dtype=torch.int64, device=nearest.device)
        by_rank.scatter_(0, self._rank, digits[:, None].expand(d + 1, self.size))
        keys = torch.empty(self.size, d + 1, dtype=torch.int64, device=nearest.device)
        keys[:, 0] = key
        for m in range(1, d + 1):
            key = key + (sum(stride[:d]) - (d + 1) * by_rank[d + 1 - m])
            keys[:, m] = key
        return keys.view(-1)

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
        weights = self.weights.detach()
        return self._kernels.splat(values.detach().contiguous(), weights, self.members, self.starts)

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
        axis = torch.argsort(self._rank[:, representative], dim=0).flip(0).T
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


def _elevate(features: Tensor) -> list[Tensor]:
    """Coordinates on the hyperplane of zero sum, d + 1 times (N,), in the order of operations of the CPU's."""
    scale = [float(s) for s in _scale(features.shape[1])]
    total = torch.zeros_like(features[:, 0])
    elevated = []
    for j in range(len(scale), 0, -1):
        g = features[:, j - 1] * scale[j - 1]
        elevated.append(total - j * g)
        total = total + g
    return [total, *reversed(elevated)]


def _place(elevated: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The nearest lattice points of remainder zero and the ranks of the axes: int64 (d + 1, N) both."""
    D = len(elevated)
    e = torch.stack(elevated)
    rounded = torch.round(e * _inverse(D, e.dtype))
    nearest = rounded * D
    residual = e - nearest
    # On ties the later axis ranks higher: a stable sort in falling order.
    order = torch.sort(residual, dim=0, descending=True, stable=True).indices
    places = torch.arange(D, device=e.device)[:, None].expand(order.shape)
    rank = torch.empty_like(order).scatter_(0, order, places) + rounded.sum(0).to(torch.int64)
    shift = D * (rank < 0).to(torch.int64) - D * (rank >= D).to(torch.int64)
    return nearest.to(torch.int64) + shift, rank + shift


def _barycentric(elevated: list[Tensor], nearest: Tensor, rank: Tensor) -> Tensor:
    """The weights (N, d + 1); differentiable, the simplex being held fixed."""
    D = len(elevated)
    e = torch.stack(elevated)
    residual = (e - nearest.to(e.dtype)) * _inverse(D, e.dtype)
    ranked = torch.zeros_like(residual).scatter(0, rank, residual)
    first = ranked[D - 1] + (1 - ranked[0])
    return torch.stack([first, *(ranked[D - 1 - m] - ranked[D - m] for m in range(1, D))], 1)


def _inverse(D: int, dtype: torch.dtype) -> float:
    """1 / D, rounded as the CPU's does."""
    return float(np.float32(1.0 / D)) if dtype == torch.float32 else 1.0 / D


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
