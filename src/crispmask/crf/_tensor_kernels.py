"""Splat, blur, slice and the Gaussian along an axis in plain PyTorch, and the choice of the fused ones on CUDA.

`embedding_bag` is a sum of weighted rows: over a vertex's points it splats, over a point's vertices it slices. Its sums
run in a fixed order.
"""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from crispmask.crf._tensor_build import neighbours, simplices

_log = logging.getLogger(__name__)


def splat(values: Tensor, points: Tensor, shares: Tensor, starts: Tensor, owners: Tensor) -> Tensor:
    """Spread (N, C) over M vertices: (M + 1, C), the last row zero.

    Args:
        values: (N, C), contiguous.
        points: int32 (N * D,), vertex by vertex the points whose simplex has it.
        shares: (N * D,), their weights for it.
        starts: int32 (M + 1,), where in `points` those of each vertex begin.
        owners: int32 (N * D,), the vertices of these entries, in rising order.
    """
    out = values.new_zeros(len(starts), values.shape[1])
    if len(values):
        out[:-1] = F.embedding_bag(points, values, starts[:-1], mode="sum", per_sample_weights=shares)
    return out


def blur(values: Tensor, around: Tensor, reverse: bool) -> Tensor:
    """Vertex values (M + 1, C) blurred along every axis of `around` (D, M, 2) with (1/2, 1, 1/2)."""
    for pair in around.flip(0) if reverse else around:
        back, forth = pair.unbind(1)
        values[:-1] += 0.5 * (values.index_select(0, back) + values.index_select(0, forth))
    return values


def slice(values: Tensor, corners: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """Vertex values (M + 1, C) at the points with corners (N, D) and weights (N, D), times alpha: (N, C)."""
    if not len(corners):
        return values.new_zeros(0, values.shape[1])
    return F.embedding_bag(corners, values, mode="sum", per_sample_weights=weights * alpha)


def convolve(values: Tensor, taps: Tensor) -> Tensor:
    """Filter along the middle axis with symmetric kernels, zero outside. Never in TensorFloat-32, as cuDNN's may be.

    Args:
        values: (P, length, Q), contiguous.
        taps: (B, 1 + radius), B a divisor of P: each kernel serves P / B successive rows; entry t is the weight at
            distance t.
    """
    windows = values.view(len(taps), -1, *values.shape[1:])
    out = windows * taps[:, 0, None, None, None]
    for t in range(1, min(taps.shape[1], values.shape[1])):
        tap = taps[:, t, None, None, None]
        out[:, :, t:].addcmul_(windows[:, :, :-t], tap)
        out[:, :, :-t].addcmul_(windows[:, :, t:], tap)
    return out.view(values.shape)


PLAIN = SimpleNamespace(
    simplices=simplices,
    neighbours=neighbours,
    splat=splat,
    blur=blur,
    slice=slice,
    convolve=convolve,
)


def for_device(device: torch.device) -> ModuleType | SimpleNamespace | Any:
    """The fused kernels on CUDA where Triton is, else the plain ones."""
    return _fused() or PLAIN if device.type == "cuda" else PLAIN


@cache
def _fused() -> ModuleType | None:
    try:
        from crispmask.crf import _triton_kernels
    except ImportError as error:
        _log.warning("The CRF works in plain PyTorch on this GPU, which takes longer: Triton is missing (%s)", error)
        return None
    return _triton_kernels
