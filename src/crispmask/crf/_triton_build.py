"""`_tensor_build` for CUDA, fused in Triton: one launch places all points, one finds all neighbours.

Multiplications and additions are not fused (`enable_fp_fusion`), so that float32 rounds as everywhere else.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from crispmask.crf import _tensor_build as plain
from crispmask.crf._triton_launch import launch
from crispmask.crf.lattice import _scale


@triton.jit(do_not_specialize=["size"])
def _simplices(
    features, scale, strides, groups, weights, ranks, keys, size, inverse,
    WORDS: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, POINTS: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    d: tl.constexpr = D - 1
    point = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    there = point < size
    axis = tl.arange(0, WIDTH)[None, :]
    inside = there[:, None] & (axis < D)
    # Onto the hyperplane of zero sum.
    elevated = tl.zeros((POINTS, WIDTH), tl.float32)
    total = tl.zeros((POINTS,), tl.float32)
    for k in range(d):
        j = d - k
        g = tl.load(features + point * d + (j - 1), mask=there, other=0.0) * tl.load(scale + (j - 1))
        elevated = tl.where(axis == j, (total - j * g)[:, None], elevated)
        total += g
    elevated = tl.where(axis == 0, total[:, None], elevated)
    # The nearest point of remainder zero; 1.5 * 2^23 added and taken away rounds, ties to even.
    rounded = (elevated * inverse + 12582912.0) - 12582912.0
    residual = elevated - rounded * D
    rank = tl.zeros((POINTS, WIDTH), tl.int32)
    for k in range(D):
        other = tl.sum(tl.where(axis == k, residual, 0.0), 1)[:, None]
        rank += ((other > residual) | ((other == residual) & (k < axis))).to(tl.int32)
    steps = rounded.to(tl.int32)
    rank += tl.sum(steps, 1)[:, None]
    shift = tl.where(rank < 0, D, 0) - tl.where(rank >= D, D, 0)
    nearest = steps * D + shift
    rank += shift
    tl.store(ranks + point[:, None] * D + axis, rank.to(tl.int8), mask=inside)
    # Weight m is the residual of rank d - m less that of rank d + 1 - m; weight 0 is that of rank d plus one less that
    # of rank 0.
    residual = (elevated - nearest.to(tl.float32)) * inverse
    upper = tl.zeros((POINTS, WIDTH), tl.float32)
    lower = tl.zeros((POINTS, WIDTH), tl.float32)
    for k in range(D):
        r = tl.sum(tl.where(axis == k, rank, 0), 1)[:, None]
        x = tl.sum(tl.where(axis == k, residual, 0.0), 1)[:, None]
        upper = tl.where(axis == D - 1 - r, x, upper)
        lower = tl.where(axis == D - r, x, lower)
        lower = tl.where((axis == 0) & (r == 0), x - 1.0, lower)
    tl.store(weights + point[:, None] * D + axis, upper - lower, mask=inside)
    # Corner m is m steps up on all axes, and down by d + 1 on the m axes of highest rank.
    for w in tl.static_range(WORDS):
        stride = tl.load(strides + w * D + axis, mask=axis < d, other=0)
        key = tl.sum(nearest.to(tl.int64) * stride, 1)
        if GROUPED:
            key += tl.load(groups + point, mask=there, other=0).to(tl.int64) * tl.load(strides + w * D + d)
        corner = key[:, None] + axis * tl.sum(stride, 1)[:, None]
        for k in range(D):
            r = tl.sum(tl.where(axis == k, rank, 0), 1)[:, None]
            down = D * tl.load(strides + w * D + k, mask=k < d, other=0)
            corner -= tl.where(axis >= D - r, down, 0)
        tl.store(keys + (w * size.to(tl.int64) + point[:, None]) * D + axis, corner, mask=inside)


@triton.jit(do_not_specialize=["vertices", "rounds", "D"])
def _neighbours(own, words, steps, word_steps, out, vertices, rounds, D, WORDS: tl.constexpr, BLOCK: tl.constexpr):
    vertex = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = vertex < vertices
    j = tl.program_id(1) // 2
    side = tl.program_id(1) % 2
    sign = 1 - 2 * side
    wanted = tl.load(own + vertex, mask=inside, other=0) + sign * tl.load(steps + j)
    low = tl.zeros((BLOCK,), tl.int32)
    high = low + vertices
    for _ in range(rounds):
        middle = low + (high - low) // 2
        searching = inside & (low < high)
        less = tl.load(own + middle, mask=searching, other=0) < wanted
        low = tl.where(searching & less, middle + 1, low)
        high = tl.where(searching & (less == 0), middle, high)
    there = tl.minimum(low, vertices - 1)
    exists = tl.load(own + there, mask=inside, other=0) == wanted
    if WORDS > 1:
        for w in tl.static_range(WORDS):
            row = words + w * vertices.to(tl.int64)
            expected = tl.load(row + vertex, mask=inside, other=0) + sign * tl.load(word_steps + w * D + j)
            exists &= tl.load(row + there, mask=inside, other=0) == expected
    place = (j.to(tl.int64) * vertices + vertex) * 2 + side
    tl.store(out + place, tl.where(exists, there, vertices), mask=inside)


@cache
def _kept_scale(d: int, device: torch.device) -> Tensor:
    return torch.from_numpy(_scale(d)).to(device)


def simplices(features: Tensor, strides: list[list[int]], groups: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    if features.requires_grad or features.dtype != torch.float32:
        return plain.simplices(features, strides, groups)
    (size, d), device = features.shape, features.device
    weights = torch.empty(size, d + 1, device=device)
    ranks = torch.empty(size, d + 1, dtype=torch.int8, device=device)
    keys = torch.empty(len(strides), size * (d + 1), dtype=torch.int64, device=device)
    width = triton.next_power_of_2(d + 1)
    points = max(1, 1024 // width)
    launch(
        _simplices, (triton.cdiv(size, points),), features.contiguous(), _kept_scale(d, device),
        torch.tensor(strides, device=device), features if groups is None else groups, weights, ranks, keys, size,
        plain.inverse(d + 1, torch.float32),
        WORDS=len(strides), D=d + 1, WIDTH=width, POINTS=points, GROUPED=groups is not None, enable_fp_fusion=False,
    )  # fmt: skip
    return weights, ranks, keys


def neighbours(own: Tensor, words: Tensor, steps: Tensor, word_steps: Tensor) -> Tensor:
    vertices, D, block = len(own), len(steps), 256
    out = torch.empty(D, vertices, 2, dtype=torch.int32, device=own.device)
    launch(
        _neighbours, (triton.cdiv(vertices, block), 2 * D), own, words, steps, word_steps, out, vertices,
        vertices.bit_length(), D, WORDS=len(words), BLOCK=block,
    )  # fmt: skip
    return out
