"""Splat, blur, slice and the Gaussian along an axis for CUDA, fused in Triton: no intermediate array.

The functions are those of `_tensor_kernels`. Every sum has one order, that of the sorted entries: no atomics.
Triton comes with torch for CUDA and compiles each kernel on its first use (a few seconds, kept in ~/.triton).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Most channels that one program handles; more are divided over the second axis of the launch.
_CHANNELS = 32
# Elements of a program's tile.
_TILE = 512


@triton.jit
def _splat(values, weights, members, starts, out, channels, D: tl.constexpr, POINTS: tl.constexpr, LANES: tl.constexpr):
    vertex = tl.program_id(0)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    begin, end = tl.load(starts + vertex), tl.load(starts + vertex + 1)
    total = tl.zeros((LANES,), dtype=out.dtype.element_ty)
    for start in range(begin, end, POINTS):
        place = start + tl.arange(0, POINTS)
        there = place < end
        entry = tl.load(members + place, mask=there, other=0)
        share = tl.load(weights + entry, mask=there, other=0.0)
        row = (entry // D).to(tl.int64) * channels
        inside = there[:, None] & (lane < channels)[None, :]
        x = tl.load(values + row[:, None] + lane[None, :], mask=inside, other=0.0)
        total += tl.sum(share[:, None] * x, 0)
    tl.store(out + vertex.to(tl.int64) * channels + lane, total, mask=lane < channels)


@triton.jit
def _blur(values, around, out, size, channels, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < size
    vertex = i // channels
    lane = i - vertex * channels
    back = tl.load(around + 2 * vertex, mask=inside, other=0).to(tl.int64)
    forth = tl.load(around + 2 * vertex + 1, mask=inside, other=0).to(tl.int64)
    here = tl.load(values + i, mask=inside, other=0.0)
    beside = tl.load(values + back * channels + lane, mask=inside, other=0.0)
    beside += tl.load(values + forth * channels + lane, mask=inside, other=0.0)
    tl.store(out + i, here + 0.5 * beside, mask=inside)


@triton.jit
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


@triton.jit
def _convolve(values, taps, out, size, length, inner, per_window, radius, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
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


def splat(values: Tensor, weights: Tensor, members: Tensor, starts: Tensor) -> Tensor:
    channels, vertices = values.shape[1], len(starts) - 1
    out = values.new_empty(vertices + 1, channels)
    out[-1] = 0
    lanes = _lanes(channels)
    grid = (vertices, triton.cdiv(channels, lanes))
    _launch(
        _splat, grid, values, weights, members, starts, out, channels,
        D=weights.shape[1], POINTS=32, LANES=lanes, num_warps=1,
    )  # fmt: skip
    return out


def blur(values: Tensor, around: Tensor, reverse: bool) -> Tensor:
    spare = torch.empty_like(values)
    spare[-1] = 0
    channels, size = values.shape[1], around.shape[1] * values.shape[1]
    for axis in reversed(range(len(around))) if reverse else range(len(around)):
        _launch(_blur, (triton.cdiv(size, _TILE),), values, around[axis], spare, size, channels, BLOCK=_TILE)
        values, spare = spare, values
    return values


def slice(values: Tensor, corners: Tensor, weights: Tensor, alpha: float) -> Tensor:
    (size, corner_count), channels = corners.shape, values.shape[1]
    out = values.new_empty(size, channels)
    lanes = _lanes(channels)
    points = _TILE // lanes
    grid = (triton.cdiv(size, points), triton.cdiv(channels, lanes))
    _launch(
        _slice, grid, values, corners, weights, out, alpha, size, channels, D=corner_count, POINTS=points, LANES=lanes
    )
    return out


def convolve(values: Tensor, taps: Tensor) -> Tensor:
    out = torch.empty_like(values)
    outer, length, inner = values.shape
    per_window = outer // max(1, len(taps))
    grid = (triton.cdiv(values.numel(), _TILE),)
    _launch(
        _convolve, grid, values, taps, out, values.numel(), length, inner, per_window, taps.shape[1] - 1, BLOCK=_TILE
    )
    return out


def _lanes(channels: int) -> int:
    return min(_CHANNELS, triton.next_power_of_2(channels))


def _launch(kernel: Any, grid: tuple[int, ...], values: Tensor, *arguments: Any, **constants: Any) -> None:
    if 0 in grid:
        return
    if values.is_cuda:
        with torch.cuda.device(values.device):
            kernel[grid](values, *arguments, **constants)
    else:  # Triton's interpreter
        kernel[grid](values, *arguments, **constants)
