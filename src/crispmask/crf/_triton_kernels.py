"""Splat, blur, slice and the Gaussian along an axis for CUDA, fused in Triton: no intermediate array.

The functions are those of `_tensor_kernels`. Every sum has one order, that of the sorted entries: no atomics.
Triton comes with torch for CUDA and compiles each kernel on its first use (a few seconds, kept in ~/.triton).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from crispmask.crf._triton_build import neighbours, simplices
from crispmask.crf._triton_launch import launch

__all__ = ["blur", "convolve", "neighbours", "simplices", "slice", "splat"]

# Most channels that one program handles; more are divided over the second axis of the launch.
_CHANNELS = 32
# Elements of a program's tile.
_TILE, _SMALL_TILE = 512, 256
# Entries of a vertex from which on, on average, a warp sums each of them; below, a thread.
_DENSE = 16
# Entries that one program sums at most: flat regions put thousands on one vertex.
_PIECE, _WIDE_PIECE, _SPARSE_PIECE = 512, 128, 128


@triton.jit
def _span(row, starts, owners, vertices, PIECE: tl.constexpr):
    """The entries of a row of sums.

    Row v is vertex v, its entries up to the next multiple of PIECE; row M is empty; row M + 1 + k are the entries from
    k * PIECE on that belong to the vertex of the first of them, unless that is its vertex's first entry.
    """
    first = (row - vertices - 1) * PIECE
    further = row > vertices
    vertex = tl.load(owners + first, mask=further, other=0)
    vertex = tl.where(further, vertex, row)
    begin = tl.load(starts + vertex, mask=row != vertices, other=0)
    end = tl.load(starts + vertex + 1, mask=row != vertices, other=0)
    start = tl.where(further, first, begin)
    stop = tl.minimum(end, tl.where(further, first + PIECE, (begin // PIECE + 1) * PIECE))
    return start, tl.where(further & (begin == first), start, stop)


@triton.jit(do_not_specialize=["vertices"])
def _splat_dense(
    values, points, shares, starts, owners, out, vertices, channels,
    PIECE: tl.constexpr, POINTS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    start, stop = _span(row, starts, owners, vertices, PIECE)
    total = tl.zeros((LANES,), dtype=out.dtype.element_ty)
    for k in range(start, stop, POINTS):
        place = k + tl.arange(0, POINTS)
        there = place < stop
        point = tl.load(points + place, mask=there, other=0).to(tl.int64)
        share = tl.load(shares + place, mask=there, other=0.0)
        inside = there[:, None] & (lane < channels)[None, :]
        x = tl.load(values + point[:, None] * channels + lane[None, :], mask=inside, other=0.0)
        total += tl.sum(share[:, None] * x, 0)
    tl.store(out + row.to(tl.int64) * channels + lane, total, mask=lane < channels)


@triton.jit(do_not_specialize=["vertices", "rows"])
def _splat_sparse(
    values, points, shares, starts, owners, out, vertices, rows, channels,
    PIECE: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lane = (tl.program_id(1) * LANES + tl.arange(0, LANES))[None, :]
    start, stop = _span(tl.minimum(row, rows - 1), starts, owners, vertices, PIECE)
    total = tl.zeros((ROWS, LANES), dtype=out.dtype.element_ty)
    for k in range(tl.max(stop - start, 0)):
        place = start + k
        there = place < stop
        point = tl.load(points + place, mask=there, other=0).to(tl.int64)
        share = tl.load(shares + place, mask=there, other=0.0)
        inside = there[:, None] & (lane < channels)
        total += share[:, None] * tl.load(values + point[:, None] * channels + lane, mask=inside, other=0.0)
    tl.store(out + row.to(tl.int64)[:, None] * channels + lane, total, mask=(row < rows)[:, None] & (lane < channels))


@triton.jit(do_not_specialize=["vertices"])
def _add_pieces(
    sums, starts, owners, vertices, channels, PIECE: tl.constexpr, PIECES: tl.constexpr, LANES: tl.constexpr
):
    """The program of a vertex's second piece adds it and all further ones to the first."""
    piece = tl.program_id(0)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    vertex = tl.load(owners + piece * PIECE)
    begin, end = tl.load(starts + vertex), tl.load(starts + vertex + 1)
    second = begin // PIECE + 1 == piece
    own = sums + vertex.to(tl.int64) * channels + lane
    total = tl.load(own, mask=second & (lane < channels), other=0.0)
    for k in range(piece, tl.where(second, (end - 1) // PIECE + 1, piece), PIECES):
        further = k + tl.arange(0, PIECES)
        inside = (further <= (end - 1) // PIECE)[:, None] & (lane < channels)[None, :]
        row = (vertices + 1 + further).to(tl.int64)[:, None]
        total += tl.sum(tl.load(sums + row * channels + lane[None, :], mask=inside, other=0.0), 0)
    tl.store(own, total, mask=second & (lane < channels))


@triton.jit
def _beside(values, around, vertex, there, lane, vertices, channels):
    """The values of vertices (VERTICES, 1) and half of those of their neighbours along an axis."""
    pair = around + 2 * vertex.to(tl.int64)
    back = tl.load(pair, mask=there, other=0).to(tl.int64)
    forth = tl.load(pair + 1, mask=there, other=0).to(tl.int64)
    inside = there & (lane < channels)
    here = tl.load(values + vertex.to(tl.int64) * channels + lane, mask=inside, other=0.0)
    beside = tl.load(values + back * channels + lane, mask=inside, other=0.0)
    beside += tl.load(values + forth * channels + lane, mask=inside, other=0.0)
    return here + 0.5 * beside


@triton.jit(do_not_specialize=["vertices", "first", "second"])
def _blur(
    values, around, out, vertices, first, second, channels,
    TWO: tl.constexpr, VERTICES: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Along an axis, or along two of them one after the other, which spares a launch."""
    vertex = (tl.program_id(0) * VERTICES + tl.arange(0, VERTICES))[:, None]
    lane = (tl.program_id(1) * LANES + tl.arange(0, LANES))[None, :]
    there = vertex < vertices
    along = around + 2 * first.to(tl.int64) * vertices
    total = _beside(values, along, vertex, there, lane, vertices, channels)
    if TWO:
        pair = around + 2 * (second.to(tl.int64) * vertices + vertex)
        back = tl.load(pair, mask=there, other=0)
        forth = tl.load(pair + 1, mask=there, other=0)
        # A neighbour that is not there is the row behind the last vertex, which is zero.
        beside = _beside(values, along, back, there & (back < vertices), lane, vertices, channels)
        beside += _beside(values, along, forth, there & (forth < vertices), lane, vertices, channels)
        total += 0.5 * beside
    place = out + vertex.to(tl.int64) * channels + lane
    tl.store(place, total, mask=(vertex <= vertices) & (lane < channels))


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


def splat(values: Tensor, points: Tensor, shares: Tensor, starts: Tensor, owners: Tensor) -> Tensor:
    channels, vertices = values.shape[1], len(starts) - 1
    lanes = _lanes(channels)
    # In float64 some versions of Triton cannot compile the other kernel.
    dense = len(points) >= _DENSE * vertices or values.dtype == torch.float64
    piece = (_PIECE if lanes <= 8 else _WIDE_PIECE) if dense else _SPARSE_PIECE
    pieces, blocks = triton.cdiv(len(points), piece), triton.cdiv(channels, lanes)
    out = values.new_empty(vertices + 1 + pieces, channels)
    given = values, points, shares, starts, owners, out, vertices
    if dense:
        tile = max(32, 128 // lanes)
        launch(_splat_dense, (len(out), blocks), *given, channels, PIECE=piece, POINTS=tile, LANES=lanes, num_warps=1)
    else:
        rows = max(16, _SMALL_TILE // lanes)
        grid = (triton.cdiv(len(out), rows), blocks)
        launch(_splat_sparse, grid, *given, len(out), channels, PIECE=piece, ROWS=rows, LANES=lanes)
    launch(
        _add_pieces, (pieces, blocks), out, starts, owners, vertices, channels,
        PIECE=piece, PIECES=16, LANES=lanes, num_warps=1,
    )  # fmt: skip
    return out[: vertices + 1]


def blur(values: Tensor, around: Tensor, reverse: bool) -> Tensor:
    spare = torch.empty_like(values)
    (axes, vertices, _), channels = around.shape, values.shape[1]
    lanes = _lanes(channels)
    block = _TILE // lanes
    grid = (triton.cdiv(vertices + 1, block), triton.cdiv(channels, lanes))
    order = list(reversed(range(axes))) if reverse else list(range(axes))
    for k in range(0, axes, 2):
        first, second = order[k], order[min(k + 1, axes - 1)]
        launch(
            _blur, grid, values, around, spare, vertices, first, second, channels,
            TWO=k + 1 < axes, VERTICES=block, LANES=lanes,
        )  # fmt: skip
        values, spare = spare, values
    return values


def slice(values: Tensor, corners: Tensor, weights: Tensor, alpha: float) -> Tensor:
    (size, corner_count), channels = corners.shape, values.shape[1]
    out = values.new_empty(size, channels)
    lanes = _lanes(channels)
    points = max(8, _SMALL_TILE // lanes)
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
    grid, block = (triton.cdiv(size, _SMALL_TILE),), _SMALL_TILE
    launch(_convolve, grid, values, taps, out, size, length, inner, per_window, radius, INDEX=index, BLOCK=block)
    return out


def _lanes(channels: int) -> int:
    return min(_CHANNELS, triton.next_power_of_2(channels))
