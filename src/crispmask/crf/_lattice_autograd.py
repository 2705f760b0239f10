"""The permutohedral lattice with gradients for torch's autograd; all filters run in Numba on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from crispmask.crf.lattice import PermutohedralLattice


class LatticeKernel:
    """K with K_ij = exp(-|f_i - f_j|²/2), approximately; one lattice per item of the batch.

    Args:
        features: (B, N, d), already divided by the bandwidths; d up to 16.
        valid: bool (B, N), False for points that are left out; None if there are none.
        channels: not used; as for `AttentionKernel`.
    """

    def __init__(self, features: Tensor, valid: Tensor | None, channels: int) -> None:
        self._valid = valid
        self._features = [item if valid is None else item[valid[b]] for b, item in enumerate(features)]
        self._lattices = [PermutohedralLattice(_numpy(item).T) if len(item) else None for item in self._features]
        self._shape = features.shape[:2]

    def filter(self, values: Tensor) -> Tensor:
        """K applied to (B, N, C); zero at points that are left out."""
        filtered = []
        for b, lattice in enumerate(self._lattices):
            item = values[b] if self._valid is None else values[b][self._valid[b]]
            result = item if lattice is None else _Filter.apply(item, self._features[b], lattice)
            filtered.append(self._spread(b, result))
        return torch.stack(filtered)

    @property
    def own(self) -> Tensor:
        """K(i, i), (B, N, 1); it has no gradient."""
        return torch.stack(
            [
                self._spread(b, item.new_zeros(0, 1) if lattice is None else _tensor(lattice.diagonal()[None], item))
                for b, (lattice, item) in enumerate(zip(self._lattices, self._features, strict=True))
            ]
        )

    def _spread(self, b: int, item: Tensor) -> Tensor:
        if self._valid is None:
            return item
        valid = self._valid[b][:, None].expand(-1, item.shape[1])
        return item.new_zeros(valid.shape).masked_scatter(valid, item)


class _Filter(torch.autograd.Function):
    """y = K v, with gradients to v and, through K, to the features.

    The gradient of Σ_i g_i y_i with respect to v is Kᵀg, the same filter with the axes blurred in the opposite order.
    From dk(f_i, f_j)/df_i = -k(f_i, f_j)·(f_i - f_j) follows the one with respect to f_i:

        g_i·(K(f v))_i + v_i·(Kᵀ(f g))_i - f_i·(g_i·(K v)_i + v_i·(Kᵀg)_i),

    with 2d more filters per channel. This is the derivative of the Gaussian; the lattice only computes its sums.
    Differentiating the lattice itself (its barycentric weights) would need no filter. But the gradient of the piecewise
    linear interpolation had the wrong size for bandwidths, measured on images, and often the wrong sign.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, features: Tensor, lattice: PermutohedralLattice) -> Tensor:
        """Values (N, C) and features (N, d) to (N, C)."""
        filtered = lattice.filter(_numpy(values).T)
        ctx.lattice = lattice
        if ctx.needs_input_grad[1]:
            ctx.save_for_backward(values, features)
            ctx.filtered = filtered
        return _tensor(filtered, values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        g = _numpy(grad).T
        back = ctx.lattice.transpose_filter(g)
        if not ctx.needs_input_grad[1]:
            return _tensor(back, grad), None, None
        values, features = ctx.saved_tensors
        v, f = _numpy(values).T, _numpy(features).T
        f = f - f.mean(axis=1, keepdims=True)  # only differences matter, and those of small numbers are more precise
        rows = []
        for row in f:
            moments = g * ctx.lattice.filter(row * v) + v * ctx.lattice.transpose_filter(row * g)
            rows.append((moments - row * (g * ctx.filtered + v * back)).sum(axis=0))
        return _tensor(back, grad), _tensor(np.stack(rows), features), None


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).numpy()
    return array


def _tensor(array: NDArray[np.float32], like: Tensor) -> Tensor:
    """An array (C, N) as a tensor (N, C) with the dtype and device of `like`."""
    return torch.from_numpy(array.T).to(like)
