"""Compiled loops that filter on a permutohedral lattice: splat, blur and gather, and the filter's own diagonal.

`make(d)` freezes the dimension, so that LLVM unrolls the loops over corners.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from crispmask.crf._lanes import WIDTH, fused, load, plus, store
from crispmask.crf._numba import jit, relaxed_jit


class Filters(NamedTuple):
    """Compiled functions for one dimension."""

    diagonal: Any
    splat: Any
    gather: Any


@cache
def make(d: int) -> Filters:
    """The functions for features of dimension `d`."""
    D = d + 1

    def diagonal(corners, weights, around, out):
        """K(i, i) without alpha: the value that the filter returns at point i for a one at i alone.

        The corners of a simplex form a cycle, each one step back along another axis from the one before. Blurring
        leads from one corner to another along either arc of the cycle, over the arc's axes in rising order, with one
        half per step, and only if every vertex in between exists.
        """
        n = corners.shape[0]
        missing = around.shape[1]
        axis = np.empty(D, np.int64)
        arc = np.empty(D, np.int64)  # the axes that are passed, in rising order
        between = np.zeros((D, D), np.float32)
        for i in range(n):
            same = i > 0
            if same:
                for m in range(D):
                    same &= corners[i, m] == corners[i - 1, m]
            if not same:
                used = 0
                for m in range(d):
                    for j in range(D):
                        if around[j, corners[i, m], 0] == corners[i, m + 1]:
                            axis[m] = j
                            used += j
                            break
                axis[d] = d * D // 2 - used
                for m in range(D):
                    for k in range(D):
                        between[m, k] = np.float32(1) if m == k else np.float32(0)
                for m in range(D):
                    for side in range(2):
                        weight = np.float32(1)
                        for length in range(1, D + 1):
                            weight *= np.float32(0.5)
                            # side 0: back along the axes of the arc that starts at m; side 1: forth, ending at m.
                            end = (m + length if side == 0 else m - length) % D
                            place = length - 1
                            new = axis[(m + place) % D if side == 0 else end]
                            while place > 0 and arc[place - 1] > new:
                                arc[place] = arc[place - 1]
                                place -= 1
                            arc[place] = new
                            vertex = np.int64(corners[i, m])
                            for a in range(length):
                                if vertex != missing:
                                    vertex = np.int64(around[arc[a], vertex, side])
                            if vertex != missing:
                                between[m, end] += weight
            value = np.float32(0)
            for m in range(D):
                for k in range(D):
                    value += weights[i, m] * between[m, k] * weights[i, k]
            out[i] = value

    def splat(corners, weights, inputs, begin, end, values):
        """Spread one channel (N,), from point `begin` to `end`, over the vertices (M + 1,)."""
        values[:] = np.float32(0)
        for i in range(begin, end):
            value = inputs[i]
            for m in range(D):
                values[np.uint32(corners[i, m])] += weights[i, m] * value

    def gather(corners, weights, values, alpha, begin, end, out):
        """Read one channel (N,), from point `begin` to `end`, back from the vertices (M + 1,)."""
        for i in range(begin, end):
            received = np.float32(0)
            for m in range(D):
                received += weights[i, m] * values[np.uint32(corners[i, m])]
            out[i] = alpha * received

    return Filters(jit(diagonal), relaxed_jit(splat), relaxed_jit(gather))


@cache
def blur(channels: int) -> Any:
    """Blur one or two interleaved channels ((M + 1) * channels,) with (1/2, 1, 1/2) along every axis of `around`.

    Only the vertices from `begin` to `end`: where these are not all, `around` must have one axis. Entry M is the zero
    of missing vertices. The result is in `values` if the number of axes is even, else in `spare`.
    """
    C = channels

    def blur_channels(values, spare, around, begin, end):
        axes, count = around.shape[0], around.shape[1]
        for j in range(axes):
            for vertex in range(begin, end):
                here = np.uint64(vertex) * np.uint64(C)
                back = np.uint64(np.uint32(around[j, vertex, 0])) * np.uint64(C)
                forth = np.uint64(np.uint32(around[j, vertex, 1])) * np.uint64(C)
                for k in range(C):
                    c = np.uint64(k)
                    spare[here + c] = values[here + c] + np.float32(0.5) * (values[back + c] + values[forth + c])
            spare[count * C :] = np.float32(0)
            values, spare = spare, values

    return relaxed_jit(blur_channels)


@cache
def blur_lanes(blocks: int) -> Any:
    """As `blur`, for `lanes` interleaved channels, `blocks` registers at a time."""
    step = blocks * WIDTH

    def blur_registers(lanes, values, spare, around, begin, end):
        axes, count = around.shape[0], around.shape[1]
        for j in range(axes):
            for vertex in range(begin, end):
                back, forth = np.int64(around[j, vertex, 0]) * lanes, np.int64(around[j, vertex, 1]) * lanes
                here = vertex * lanes
                for k in range(0, lanes, step):
                    pair = plus(load(values, back + k, blocks), load(values, forth + k, blocks))
                    store(spare, here + k, fused(pair, np.float32(0.5), load(values, here + k, blocks)))
            spare[count * lanes :] = np.float32(0)
            values, spare = spare, values

    return relaxed_jit(blur_registers)
