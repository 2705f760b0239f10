"""Splat, blur, slice and the Gaussian along an axis for CUDA, fused in Triton: no intermediate array.

The functions are those of `_tensor_kernels`. Every sum has one order, that of the sorted entries: no atomics.
Triton comes with torch for CUDA and compiles each kernel on its first use (a few seconds, kept in ~/.triton).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from crispmask.crf._triton_build import neighbours, simplices
from crispmask.crf._triton_launch import launch

__all__ = ["blur", "convolve", "neighbours", "plan", "simplices", "slice", "splat"]

# Most channels that one program handles; more are divided over the second axis of the launch.
_CHANNELS = 32
# Elements of a program's tile.
_TILE = 512
# Entries of a vertex that one program sums at most: flat regions put tens of thousands on one vertex.
_LONGEST = 512


@dataclass(frozen=True)
class Plan:
    """How the entries are divided over programs.

    Attributes:
        vertices: M.
        spans: int32 (M + 1 + pieces, 2), the first entry and the one behind the last of each row of `splat`'s sums:
            the vertices, the sink, and the pieces of vertices that have more than `_LONGEST` entries, none themselves.
        long: int32 (V, 3), such vertices, and their first piece and the one behind their last, as rows.
    """

    vertices: int
    spans: Tensor
    long: Tensor


@triton.jit
def _splat(values, points, shares, spans, out, channels, POINTS: tl.constexpr, LANES: tl.constexpr):
    row = tl.program_id(0)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    begin, end = tl.load(spans + 2 * row), tl.load(spans + 2 * row + 1)
    total = tl.zeros((LANES,), dtype=out.dtype.element_ty)
    for start in range(begin, end, POINTS):
        place = start + tl.arange(0, POINTS)
        there = place < end
        point = tl.load(points + place, mask=there, other=0).to(tl.int64)
        share = tl.load(shares + place, mask=there, other=0.0)
        inside = there[:, None] & (lane < channels)[None, :]
        x = tl.load(values + point[:, None] * channels + lane[None, :], mask=inside, other=0.0)
        total += tl.sum(share[:, None] * x, 0)
    tl.store(out + row.to(tl.int64) * channels + lane, total, mask=lane < channels)


@triton.jit
def _add_pieces(sums, long, channels, PIECES: tl.constexpr, LANES: tl.constexpr):
    own = long + 3 * tl.program_id(0)
    vertex, begin, end = tl.load(own), tl.load(own + 1), tl.load(own + 2)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    total = tl.zeros((LANES,), dtype=sums.dtype.element_ty)
    for start in range(begin, end, PIECES):
        piece = start + tl.arange(0, PIECES)
        inside = (piece < end)[:, None] & (lane < channels)[None, :]
        x = tl.load(sums + piece.to(tl.int64)[:, None] * channels + lane[None, :], mask=inside, other=0.0)
        total += tl.sum(x, 0)
    tl.store(sums + vertex.to(tl.int64) * channels + lane, total, mask=lane < channels)


@triton.jit(do_not_specialize=["vertices"])
def _blur(values, around, out, vertices, channels, VERTICES: tl.constexpr, LANES: tl.constexpr):
    vertex = tl.program_id(0) * VERTICES + tl.arange(0, VERTICES)
    lane = (tl.program_id(1) * LANES + tl.arange(0, LANES))[None, :]
    there = vertex < vertices
    back = tl.load(around + 2 * vertex.to(tl.int64), mask=there, other=0).to(tl.int64)
    forth = tl.load(around + 2 * vertex.to(tl.int64) + 1, mask=there, other=0).to(tl.int64)
    inside = there[:, None] & (lane < channels)
    own = vertex.to(tl.int64)[:, None] * channels + lane
    here = tl.load(values + own, mask=inside, other=0.0)
    beside = tl.load(values + back[:, None] * channels + lane, mask=inside, other=0.0)
    beside += tl.load(values + forth[:, None] * channels + lane, mask=inside, other=0.0)
    # The row behind the last vertex is zero.
    tl.store(out + own, here + 0.5 * beside, mask=(vertex <= vertices)[:, None] & (lane < channels))


@triton.jit(do_not_specialize=["size"])
def _slice(
    values, corners, weights, out, alpha, size, channels, D: tl.constexpr, POINTS: tl.constexpr, LANES: tl.constexpr
):
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    there = point < size
    inside = there[:, None] & (lane < channels)[None, :]
    total = tl.zeros((POINTS, LANES), dtype=out.dtype.element_ty)
    first = point.to(tl.int64) * D
    for m in range(D):
        vertex = tl.load(corners + first + m, mask=there, other=0).to(tl.int64)
        share = tl.load(weights + first + m, mask=there, other=0.0)
        x = tl.load(values + vertex[:, None] * channels + lane[None, :], mask=inside, other=0.0)
        total += share[:, None] * x
    place = point.to(tl.int64)[:, None] * channels + lane[None, :]
    tl.store(out + place, total * alpha, mask=inside)


@triton.jit(do_not_specialize=["size"])
def _convolve(values, taps, out, size, length, inner, per_window, radius, INDEX: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    inside = i < size
    row = i // inner
    position = row % length
    own = taps + (row // length // per_window) * (radius + 1)
    total = tl.load(own, mask=inside, other=0.0) * tl.load(values + i, mask=inside, other=0.0)
    for t in range(1, radius + 1):
        tap = tl.load(own + t, mask=inside, other=0.0)
        pair = tl.load(values + i - t * inner, mask=inside & (position >= t), other=0.0)
        pair += tl.load(values + i + t * inner, mask=inside & (position + t < length), other=0.0)
        total += tap * pair
    tl.store(out + i, total, mask=inside)


def plan(starts: Tensor) -> Plan:
    """See `_tensor_kernels.plan`."""
    begins, ends = starts[:-1], starts[1:]
    counts = ends - begins
    long = torch.nonzero(counts > _LONGEST)[:, 0]
    spans = torch.stack([begins, torch.where(counts > _LONGEST, begins, ends)], 1)
    pieces = (counts[long] + _LONGEST - 1) // _LONGEST
    last = torch.cumsum(pieces, 0)
    of = torch.repeat_interleave(torch.arange(len(long), device=starts.device), pieces)
    first = begins[long][of] + _LONGEST * (torch.arange(len(of), device=starts.device) - (last - pieces)[of])
    divided = torch.stack([first, torch.minimum(first + _LONGEST, ends[long][of])], 1)
    rows = len(starts) + torch.stack([last - pieces, last], 1)
    return Plan(
        len(begins),
        torch.cat([spans, spans.new_zeros(1, 2), divided]).to(torch.int32),
        torch.cat([long[:, None], rows], 1).to(torch.int32),
    )


def splat(values: Tensor, points: Tensor, shares: Tensor, plan: Plan) -> Tensor:
    channels = values.shape[1]
    out = values.new_empty(len(plan.spans), channels)
    lanes = _lanes(channels)
    blocks, tile = triton.cdiv(channels, lanes), max(16, 64 // lanes)
    launch(
        _splat, (len(out), blocks), values, points, shares, plan.spans, out, channels,
        POINTS=tile, LANES=lanes, num_warps=1,
    )  # fmt: skip
    launch(_add_pieces, (len(plan.long), blocks), out, plan.long, channels, PIECES=tile, LANES=lanes, num_warps=1)
    return out[: plan.vertices + 1]


def blur(values: Tensor, around: Tensor, reverse: bool) -> Tensor:
    spare = torch.empty_like(values)
    vertices, channels = around.shape[1], values.shape[1]
    lanes = _lanes(channels)
    block = _TILE // lanes
    grid = (triton.cdiv(vertices + 1, block), triton.cdiv(channels, lanes))
    for axis in reversed(range(len(around))) if reverse else range(len(around)):
        launch(_blur, grid, values, around[axis], spare, vertices, channels, VERTICES=block, LANES=lanes)
        values, spare = spare, values
    return values


def slice(values: Tensor, corners: Tensor, weights: Tensor, alpha: float) -> Tensor:
    (size, corner_count), channels = corners.shape, values.shape[1]
    out = values.new_empty(size, channels)
    lanes = _lanes(channels)
    points = _TILE // lanes
    grid = (triton.cdiv(size, points), triton.cdiv(channels, lanes))
    launch(
        _slice, grid, values, corners, weights, out, alpha, size, channels, D=corner_count, POINTS=points, LANES=lanes
    )
    return out


def convolve(values: Tensor, taps: Tensor) -> Tensor:
    out = torch.empty_like(values)
    outer, length, inner = values.shape
    per_window = outer // max(1, len(taps))
    size, radius = values.numel(), taps.shape[1] - 1
    index = tl.int32 if size + (radius + 1) * inner + _TILE < 2**31 else tl.int64
    grid = (triton.cdiv(size, _TILE),)
    launch(_convolve, grid, values, taps, out, size, length, inner, per_window, radius, INDEX=index, BLOCK=_TILE)
    return out


def _lanes(channels: int) -> int:
    return min(_CHANNELS, triton.next_power_of_2(channels))
