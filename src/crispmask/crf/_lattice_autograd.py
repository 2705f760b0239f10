"""The permutohedral lattice under torch's autograd: in Numba on the CPU, else on tensors."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from crispmask.crf.lattice import PermutohedralLattice
from crispmask.crf.torch_lattice import TorchLattice

Derivative = Literal["gaussian", "lattice"]
# Channels that one filter of the backward pass holds at most, if the features' own do not need more.
_CHANNELS = 32


class LatticeKernel:
    """K with K_ij = exp(-|f_i - f_j|²/2), approximately; items of the batch do not see each other.

    Args:
        features: (B, N, d), already divided by the bandwidths; d up to 64.
        valid: bool (B, N), False for points that take no part; None for all.
        channels: as for `AttentionKernel`; any number here.
        derivative: what features get gradients of: "gaussian" of the kernel that the lattice approximates, "lattice" of
            what it computes; see `_GaussianFilter` and `_OwnFilter`.
    """

    def __init__(
        self, features: Tensor, valid: Tensor | None, channels: int, derivative: Derivative = "gaussian"
    ) -> None:
        batch, self._count = features.shape[:2]
        self._index = None if valid is None else torch.nonzero(valid.flatten())[:, 0]
        self._batch = batch
        sizes = [self._count] * batch if valid is None else valid.sum(1).tolist()
        points = self._taken(features)
        self._derivative = derivative if points.requires_grad else "gaussian"
        self._lattice: _Lattice
        if points.device.type == "cpu" and points.dtype == torch.float32 and self._derivative == "gaussian":
            self._lattice = _Compiled(points, sizes)
        else:
            groups = torch.repeat_interleave(torch.tensor(sizes, device=points.device)) if batch > 1 else None
            taken = points if self._derivative == "lattice" else points.detach()
            self._lattice = TorchLattice(taken, groups)
        self._points = points

    def filter(self, values: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C), zero at points that take no part."""
        taken = self._taken(values)
        if self._derivative == "lattice":
            return self._put_back(_OwnFilter.apply(taken, self._lattice.weights, self._lattice))
        return self._put_back(_GaussianFilter.apply(taken, self._points, self._lattice))

    @property
    def own(self) -> Tensor:
        """K(i, i), (B, N, 1); for "gaussian" a constant as far as gradients go."""
        own = self._lattice.diagonal()[:, None]
        return self._put_back(own if self._derivative == "lattice" else own.detach())

    def _taken(self, values: Tensor) -> Tensor:
        """The points (P, C) that take part, item after item."""
        flat = values.flatten(0, 1)
        return flat if self._index is None else flat.index_select(0, self._index)

    def _put_back(self, points: Tensor) -> Tensor:
        shape = (self._batch, self._count, points.shape[1])
        if self._index is None:
            return points.view(shape)
        return points.new_zeros(shape).flatten(0, 1).index_copy(0, self._index, points).view(shape)


class _Lattice(Protocol):
    weights: Any

    def filter(self, values: Tensor) -> Tensor: ...
    def transpose_filter(self, values: Tensor) -> Tensor: ...
    def diagonal(self) -> Tensor: ...


class _Compiled:
    """`PermutohedralLattice` for tensors on the CPU, one for each item."""

    weights = None

    def __init__(self, points: Tensor, sizes: list[int]) -> None:
        items = torch.split(points.detach(), sizes)
        self._sizes = sizes
        self._lattices = [PermutohedralLattice(item.numpy().T) if len(item) else None for item in items]

    def filter(self, values: Tensor) -> Tensor:
        return self._each(values, lambda lattice, item: lattice.filter(item))

    def transpose_filter(self, values: Tensor) -> Tensor:
        return self._each(values, lambda lattice, item: lattice.transpose_filter(item))

    def diagonal(self) -> Tensor:
        found = [lattice.diagonal() for lattice in self._lattices if lattice]
        return torch.from_numpy(np.concatenate([*found, np.empty(0, np.float32)]))

    def _each(self, values: Tensor, work: Any) -> Tensor:
        out = torch.empty_like(values)
        parts = zip(self._lattices, torch.split(values, self._sizes), torch.split(out, self._sizes), strict=True)
        for lattice, item, result in parts:
            if lattice:
                channels: NDArray[np.float32] = work(lattice, item.numpy().T)
                result.copy_(torch.from_numpy(channels.T))
        return out


class _GaussianFilter(torch.autograd.Function):
    """y = K v, with gradients to v and, through K, to the features.

    The gradient of Σ_i g_i y_i with respect to v is Kᵀg, the same filter with the axes blurred in the opposite order.
    From dk(f_i, f_j)/df_i = -k(f_i, f_j)·(f_i - f_j) follows the one with respect to f_i:

        g_i·(K(f v))_i + v_i·(Kᵀ(f g))_i - f_i·(g_i·(K v)_i + v_i·(Kᵀg)_i),

    2d more filters per channel. This differentiates the Gaussian and takes the lattice for its sums: for bandwidths,
    which move every point, a better guide than `_OwnFilter`.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, features: Tensor, lattice: _Lattice) -> Tensor:
        """Values (P, C) and features (P, d) to (P, C)."""
        filtered = lattice.filter(values.detach())
        ctx.lattice = lattice
        if ctx.needs_input_grad[1]:
            ctx.save_for_backward(values, features, filtered)
        return filtered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        g = grad.contiguous()
        back = ctx.lattice.transpose_filter(g)
        if not ctx.needs_input_grad[1]:
            return back, None, None
        v, f, filtered = ctx.saved_tensors
        f = f - f.mean(0, keepdim=True)  # only differences count, and of small numbers they are more precise
        shared = (g * filtered + v * back).sum(1)
        columns = []
        for some in torch.split(f, max(1, _CHANNELS // v.shape[1]), 1):
            forth = ctx.lattice.filter((some[:, :, None] * v[:, None]).flatten(1)).view(*some.shape, -1)
            turned = ctx.lattice.transpose_filter((some[:, :, None] * g[:, None]).flatten(1)).view(*some.shape, -1)
            moments = g[:, None] * forth + v[:, None] * turned
            columns.append(moments.sum(2) - some * shared[:, None])
        return back, torch.cat(columns, 1), None


class _OwnFilter(torch.autograd.Function):
    """y = K v, with gradients to v and to the barycentric weights: the derivative of what the lattice computes.

    It costs no filter, and agrees with finite differences as long as no point changes its simplex. It follows the
    facets of a piecewise linear interpolation: on photos bandwidths got gradients of the wrong size and often of the
    wrong sign as a direction in which to learn.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor, lattice: TorchLattice) -> Tensor:
        """Values (P, C) and weights (P, d + 1) to (P, C)."""
        blurred = lattice.blur(lattice.splat(values))
        ctx.lattice = lattice
        ctx.save_for_backward(values, blurred)
        return lattice.slice(blurred)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        values, blurred = ctx.saved_tensors
        lattice: TorchLattice = ctx.lattice
        g = grad.contiguous()
        back = lattice.blur(lattice.splat(g), reverse=True)
        columns = [
            (g * blurred.index_select(0, corner) + values * back.index_select(0, corner)).sum(1)
            for corner in lattice.corners.unbind(1)
        ]
        return lattice.slice(back), lattice.alpha * torch.stack(columns, 1), None
