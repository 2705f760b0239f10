"""Compiled loops of the permutohedral lattice; `make(d, words)` freezes the dimension so that LLVM unrolls them.

Vertices are known by keys: their first d coordinates packed into 64-bit words. Packing is linear, so the key of a
vertex's neighbour, or of the next corner of a simplex, is the key plus a constant of the axis.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from crispmask.crf._numba import LANES, add_scaled, jit, relaxed_jit, set_scaled

# Points embedded at a time: their coordinates stay in the first-level cache and every loop over them vectorises.
BLOCK = 512
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Kernels(NamedTuple):
    """Compiled functions for one dimension."""

    build: Any
    neighbours: Any
    diagonal: Any


@lru_cache(maxsize=None)
def make(d: int, words: int) -> Kernels:
    """Kernels for features of dimension `d`, with keys of `words` 64-bit words."""
    D = d + 1

    def build(features, scale, strides, steps, corners, weights):  # type: ignore[no-untyped-def]
        """Embed the points; fill corners (D, N) and weights (D, N); return the vertices' keys and the hash table.

        Adams, Baek and Davis, 2010, section 3.1; float32 throughout, ties as in Krähenbühl's code.
        """
        n = features.shape[1]
        inverse = np.float32(1.0 / D)
        e = np.empty((D, BLOCK), np.float32)
        rank = np.empty((D, BLOCK), np.int32)
        total = np.empty(BLOCK, np.float32)
        ranked = np.empty((D, BLOCK), np.float32)
        key = np.empty((words, D, BLOCK), np.int64)
        step = np.empty((words, D, BLOCK), np.int64)

        bits = 12
        while (1 << bits) < n // 2:
            bits += 1
        table = np.full(1 << bits, -1, np.int32)
        keys = np.empty((1 << (bits - 1), words), np.int64)
        count = 0

        for start in range(0, n, BLOCK):
            size = min(BLOCK, n - start)
            # Room for every vertex that this block can add, at a load of one half at most.
            if 2 * (count + D * BLOCK) > table.shape[0]:
                while 2 * (count + D * BLOCK) > (1 << bits):
                    bits += 1
                larger = np.empty((1 << (bits - 1), words), np.int64)
                larger[:count] = keys[:count]
                keys = larger
                table = np.full(1 << bits, -1, np.int32)
                for vertex in range(count):
                    h = np.uint64(0)
                    for w in range(words):
                        h = (h + np.uint64(keys[vertex, w])) * _GOLDEN
                    slot = np.int64(h >> np.uint64(64 - bits))
                    while table[slot] >= 0:
                        slot = (slot + 1) & (table.shape[0] - 1)
                    table[slot] = vertex

            # Elevate onto the hyperplane of zero sum.
            total[:] = np.float32(0)
            for j in range(d, 0, -1):
                factor = np.float32(j)
                for i in range(size):
                    g = features[j - 1, start + i] * scale[j - 1]
                    e[j, i] = total[i] - factor * g
                    total[i] += g
            for i in range(size):
                e[0, i] = total[i]
                total[i] = np.float32(0)

            # The nearest lattice point of remainder zero, and its residual (in e).
            for w in range(words):
                for i in range(size):
                    key[w, 0, i] = 0
            for j in range(D):
                for i in range(size):
                    v = np.rint(e[j, i] * inverse)
                    total[i] += v
                    ranked[j, i] = v * np.float32(D)  # the lattice point, until the ranks are known
            for j in range(D):
                for i in range(size):
                    rank[j, i] = np.int32(total[i])
            for j in range(D):
                for k in range(j + 1, D):
                    for i in range(size):
                        above = np.int32((e[k, i] - ranked[k, i]) > (e[j, i] - ranked[j, i]))
                        rank[j, i] += above
                        rank[k, i] += np.int32(1) - above
            for j in range(D):
                for i in range(size):
                    shift = np.int32(D) * (np.int32(rank[j, i] < 0) - np.int32(rank[j, i] > d))
                    rank[j, i] += shift
                    c = ranked[j, i] + np.float32(shift)
                    e[j, i] = (e[j, i] - c) * inverse
                    for w in range(words):
                        key[w, 0, i] += np.int64(c) * strides[w, j]

            # Residuals, and steps from corner to corner, in order of rank.
            for r in range(D):
                for i in range(size):
                    z = e[0, i]
                    for j in range(1, D):
                        z = e[j, i] if rank[j, i] == r else z
                    ranked[r, i] = z
            for w in range(words):
                for r in range(1, D):
                    for i in range(size):
                        s = steps[w, 0]
                        for j in range(1, D):
                            s = steps[w, j] if rank[j, i] == r else s
                        step[w, r, i] = s
                for m in range(1, D):
                    for i in range(size):
                        key[w, m, i] = key[w, m - 1, i] + step[w, D - m, i]
            for i in range(size):
                weights[0, start + i] = ranked[d, i] + (np.float32(1) - ranked[0, i])
            for m in range(1, D):
                for i in range(size):
                    weights[m, start + i] = ranked[d - m, i] - ranked[D - m, i]

            # Find or create the vertices. Neighbouring points share corners: the last one is tried first.
            for m in range(D):
                vertex = np.int64(-1)
                for i in range(size):
                    same = vertex >= 0
                    if same:
                        for w in range(words):
                            same &= keys[vertex, w] == key[w, m, i]
                    if not same:
                        h = np.uint64(0)
                        for w in range(words):
                            h = (h + np.uint64(key[w, m, i])) * _GOLDEN
                        slot = np.int64(h >> np.uint64(64 - bits))
                        while True:
                            vertex = np.int64(table[slot])
                            if vertex < 0:
                                vertex = count
                                table[slot] = count
                                for w in range(words):
                                    keys[count, w] = key[w, m, i]
                                count += 1
                                break
                            same = True
                            for w in range(words):
                                same &= keys[vertex, w] == key[w, m, i]
                            if same:
                                break
                            slot = (slot + 1) & (table.shape[0] - 1)
                    corners[m, start + i] = vertex
        return keys[:count], table

    def neighbours(keys, table, steps):  # type: ignore[no-untyped-def]
        """Vertices one step back and forth along each axis: int32 (D, M, 2), M where there is none."""
        count = keys.shape[0]
        bits = 0
        while (1 << bits) < table.shape[0]:
            bits += 1
        found = np.full((D, count, 2), np.int32(count), np.int32)
        for j in range(D):
            for vertex in range(count):
                h = np.uint64(0)
                for w in range(words):
                    h = (h + np.uint64(keys[vertex, w] + steps[w, j])) * _GOLDEN
                slot = np.int64(h >> np.uint64(64 - bits))
                while True:
                    other = np.int64(table[slot])
                    if other < 0:
                        break
                    same = True
                    for w in range(words):
                        same &= keys[other, w] == keys[vertex, w] + steps[w, j]
                    if same:
                        # Symmetric: one look-up serves both.
                        found[j, vertex, 0] = other
                        found[j, other, 1] = vertex
                        break
                    slot = (slot + 1) & (table.shape[0] - 1)
        return found

    def diagonal(corners, weights, around, out):  # type: ignore[no-untyped-def]
        """K(i, i) without alpha: what a unit at point i gives back to it.

        The corners of a simplex form a cycle, each one step back along another axis from the one before. Blurring
        leads from one corner to another along either arc of the cycle, over the arc's axes in rising order, with one
        half per step, and only if every vertex in between exists.
        """
        n = corners.shape[1]
        missing = around.shape[1]
        axis = np.empty(D, np.int64)
        between = np.zeros((D, D), np.float32)
        for i in range(n):
            same = i > 0
            if same:
                for m in range(D):
                    same &= corners[m, i] == corners[m, i - 1]
            if not same:
                used = 0
                for m in range(d):
                    for j in range(D):
                        if around[j, corners[m, i], 0] == corners[m + 1, i]:
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
                            first = m if side == 0 else (m - length) % D
                            vertex = np.int64(corners[m, i])
                            for j in range(D):
                                for a in range(length):
                                    if axis[(first + a) % D] == j and vertex != missing:
                                        vertex = np.int64(around[j, vertex, side])
                            if vertex != missing:
                                end = (m + length) % D if side == 0 else first
                                between[m, end] += weight
            value = np.float32(0)
            for m in range(D):
                for k in range(D):
                    value += weights[m, i] * between[m, k] * weights[k, i]
            out[i] = value

    return Kernels(jit(build), jit(neighbours), jit(diagonal))


@relaxed_jit
def blur(values, spare, around, reverse):  # type: ignore[no-untyped-def]
    """Blur one channel (M + 1,) with (1/2, 1, 1/2) along every axis; entry M is the zero of missing vertices.

    The result is in `values` if the number of axes is even, else in `spare`.
    """
    axes, count = around.shape[0], around.shape[1]
    for a in range(axes):
        j = axes - 1 - a if reverse else a
        for vertex in range(count):
            pair = values[around[j, vertex, 0]] + values[around[j, vertex, 1]]
            spare[vertex] = values[vertex] + np.float32(0.5) * pair
        spare[count] = np.float32(0)
        values, spare = spare, values


@relaxed_jit
def blur_lanes(values, spare, around, lanes, reverse):  # type: ignore[no-untyped-def]
    """As `blur`, for `lanes` interleaved channels: ((M + 1) * lanes,)."""
    axes, count = around.shape[0], around.shape[1]
    for a in range(axes):
        j = axes - 1 - a if reverse else a
        for vertex in range(count):
            back, forth = np.int64(around[j, vertex, 0]) * lanes, np.int64(around[j, vertex, 1]) * lanes
            here = vertex * lanes
            for k in range(0, lanes, LANES):
                set_scaled(spare, here + k, values, here + k, np.float32(1))
                add_scaled(spare, here + k, values, back + k, np.float32(0.5))
                add_scaled(spare, here + k, values, forth + k, np.float32(0.5))
        spare[count * lanes :] = np.float32(0)
        values, spare = spare, values


@relaxed_jit
def splat(corners, weights, inputs, values):  # type: ignore[no-untyped-def]
    """Spread one channel (N,) over the vertices (M + 1,)."""
    values[:] = np.float32(0)
    for i in range(inputs.shape[0]):
        for m in range(corners.shape[0]):
            values[corners[m, i]] += weights[m, i] * inputs[i]


@relaxed_jit
def gather(corners, weights, values, alpha, out):  # type: ignore[no-untyped-def]
    """Read one channel (N,) back from the vertices (M + 1,)."""
    for i in range(out.shape[0]):
        total = np.float32(0)
        for m in range(corners.shape[0]):
            total += weights[m, i] * values[corners[m, i]]
        out[i] = alpha * total
