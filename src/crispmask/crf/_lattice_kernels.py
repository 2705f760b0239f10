"""Compiled loops of the permutohedral lattice; `make(d, words)` freezes the dimension so that LLVM unrolls them.

Vertices are known by keys: their first d coordinates packed into 64-bit words. Packing is linear, so the key of a
vertex's neighbour, or of the next corner of a simplex, is the key plus a constant of the axis.

Where a vertex is an index, it is read as uint32: a signed one might count from the end as far as Numba knows, and each
access would take three instructions more, which is a fifth of the time of a filter pass.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from crispmask.crf._lanes import WIDTH, fused, load, plus, store
from crispmask.crf._numba import jit, relaxed_jit

# Points embedded at a time: their coordinates stay in the first-level cache and every loop over them vectorises.
BLOCK = 512
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


# The stages of the embedding, one coordinate of a block of points at a time. Each is a function of its own because
# LLVM vectorises them that way (0.2 ns per point and loop) and does not within the large function (five times slower).


@jit
def _elevate(feature, unit, factor, e, total):
    for i in range(feature.shape[0]):
        g = feature[i] * unit
        e[i] = total[i] - factor * g
        total[i] += g


@jit
def _round(e, inverse, period, nearest, residual, total):
    for i in range(e.shape[0]):
        v = np.rint(e[i] * inverse)
        total[i] += v
        nearest[i] = v * period
        residual[i] = e[i] - nearest[i]


@jit
def _compare(one, other, rank, other_rank):
    for i in range(one.shape[0]):
        above = np.float32(1) if other[i] > one[i] else np.float32(0)
        rank[i] += above
        other_rank[i] += np.float32(1) - above


@jit
def _shift(e, inverse, period, nearest, residual, rank):
    """Bring the rank into 0..d, the lattice point along, and the residual to the unit of the weights."""
    for i in range(e.shape[0]):
        shift = period if rank[i] < np.float32(0) else np.float32(0)
        shift = -period if rank[i] > period - np.float32(1) else shift
        rank[i] += shift
        nearest[i] += shift
        residual[i] = (e[i] - nearest[i]) * inverse


@jit
def _pack(coordinate, stride, key):
    for i in range(coordinate.shape[0]):
        key[i] += np.int64(coordinate[i]) * stride


@jit
def _scatter(residual, rank, axis_step, ranked, stepped):
    """A point's residual, and the step along its axis, go to where its rank says."""
    for i in range(residual.shape[0]):
        place = np.uint32(np.int32(rank[i])) * np.uint32(BLOCK) + np.uint32(i)
        ranked[place] = residual[i]
        stepped[place] = axis_step


@jit
def _add(one, other, out):
    for i in range(one.shape[0]):
        out[i] = one[i] + other[i]


class Kernels(NamedTuple):
    """Compiled functions for one dimension."""

    build: Any
    merge: Any
    neighbours: Any
    diagonal: Any
    splat: Any
    gather: Any


@cache
def make(d: int, words: int) -> Kernels:
    """Kernels for features of dimension `d`, with keys of `words` 64-bit words."""
    D = d + 1

    def build(features, scale, strides, steps, begin, end, corners, weights):
        """Embed the points from `begin` to `end`; fill their rows of corners (N, D) and weights (N, D).

        Returns the vertices' keys, in the order in which the points come upon them, and the hash table.

        Adams, Baek and Davis, 2010, section 3.1; float32 throughout, ties as in Krähenbühl's code.
        """
        n = end - begin
        inverse = np.float32(1.0 / D)
        e = np.zeros((D, BLOCK), np.float32)
        rank = np.empty((D, BLOCK), np.float32)  # whole numbers
        total = np.empty(BLOCK, np.float32)
        ranked = np.empty(D * BLOCK, np.float32)
        stepped = np.zeros(D * BLOCK, np.int64)
        key = np.empty((words, D, BLOCK), np.int64)
        nearest = np.empty((D, BLOCK), np.float32)
        residual = np.empty((D, BLOCK), np.float32)

        bits = 12
        while (1 << bits) < n // 2:
            bits += 1
        table = np.full(1 << bits, -1, np.int32)
        mask = np.uint64(table.shape[0] - 1)
        keys = np.empty((1 << (bits - 1), words), np.int64)
        count = 0

        for start in range(begin, end, BLOCK):
            size = min(BLOCK, end - start)
            # Room for every vertex that this block can add, at a load of one half at most.
            if 2 * (count + D * BLOCK) > table.shape[0]:
                while 2 * (count + D * BLOCK) > (1 << bits):
                    bits += 1
                larger = np.empty((1 << (bits - 1), words), np.int64)
                larger[:count] = keys[:count]
                keys = larger
                table = np.full(1 << bits, -1, np.int32)
                mask = np.uint64(table.shape[0] - 1)
                for old in range(count):
                    h = np.uint64(0)
                    for w in range(words):
                        h = (h + np.uint64(keys[old, w])) * _GOLDEN
                    slot = h >> np.uint64(64 - bits)
                    while table[slot] >= 0:
                        slot = (slot + np.uint64(1)) & mask
                    table[slot] = old

            # Elevate onto the hyperplane of zero sum.
            total[:] = np.float32(0)
            for j in range(d, 0, -1):
                _elevate(features[j - 1, start : start + size], scale[j - 1], np.float32(j), e[j], total)
            e[0] = total
            # The nearest lattice point of remainder zero, and the residuals, which rank the axes.
            total[:] = np.float32(0)
            for j in range(D):
                _round(e[j], inverse, np.float32(D), nearest[j], residual[j], total)
            rank[:] = total
            for j in range(D):
                for k in range(j + 1, D):
                    _compare(residual[j], residual[k], rank[j], rank[k])
            key[:] = 0
            for j in range(D):
                _shift(e[j], inverse, np.float32(D), nearest[j], residual[j], rank[j])
                for w in range(words):
                    _pack(nearest[j], strides[w, j], key[w, 0])
            # Residuals, and steps from corner to corner, in order of rank (beyond `size` ranks mean nothing).
            for w in range(words):
                for j in range(D):
                    _scatter(residual[j, :size], rank[j, :size], steps[w, j], ranked, stepped)
                for m in range(1, D):
                    _add(key[w, m - 1], stepped[(D - m) * BLOCK : (D - m + 1) * BLOCK], key[w, m])
            here = weights[start : start + size]
            for i in range(size):
                here[i, 0] = ranked[d * BLOCK + i] + (np.float32(1) - ranked[i])
                for m in range(1, D):
                    here[i, m] = ranked[(d - m) * BLOCK + i] - ranked[(D - m) * BLOCK + i]

            # Find or create the vertices, point by point: numbered like that, a point's vertices lie close together.
            # (Trying the previous point's vertex first is slower: processors cannot predict where it changes, while
            # look-ups of neighbouring points run side by side.)
            places = corners[start : start + size]
            for i in range(size):
                for m in range(D):
                    h = np.uint64(0)
                    for w in range(words):
                        h = (h + np.uint64(key[w, m, i])) * _GOLDEN
                    slot = h >> np.uint64(64 - bits)
                    while True:
                        vertex = np.int64(table[slot])
                        if vertex < 0:
                            vertex = np.int64(count)
                            table[slot] = vertex
                            for w in range(words):
                                keys[vertex, w] = key[w, m, i]
                            count += 1
                            break
                        same = True
                        for w in range(words):
                            same &= keys[vertex, w] == key[w, m, i]
                        if same:
                            break
                        slot = (slot + np.uint64(1)) & mask
                    places[i, m] = vertex
        return keys[:count], table

    def merge(found, keys, count, table, names):
        """Add a strip's `found` keys to the first `count` ones of `keys`, and to `table`; return how many there are.

        names: int32, filled with the number that each found vertex has among all.
        """
        bits = 0
        while (1 << bits) < table.shape[0]:
            bits += 1
        mask = np.uint64(table.shape[0] - 1)
        for i in range(found.shape[0]):
            h = np.uint64(0)
            for w in range(words):
                h = (h + np.uint64(found[i, w])) * _GOLDEN
            slot = h >> np.uint64(64 - bits)
            while True:
                vertex = np.int64(table[slot])
                if vertex < 0:
                    vertex = np.int64(count)
                    table[slot] = vertex
                    for w in range(words):
                        keys[vertex, w] = found[i, w]
                    count += 1
                    break
                same = True
                for w in range(words):
                    same &= keys[vertex, w] == found[i, w]
                if same:
                    break
                slot = (slot + np.uint64(1)) & mask
            names[i] = vertex
        return count

    def neighbours(keys, table, steps, j, found):
        """Vertices one step back and forth along axis j: fills int32 (M, 2), M where there is none."""
        count = keys.shape[0]
        bits = 0
        while (1 << bits) < table.shape[0]:
            bits += 1
        mask = np.uint64(table.shape[0] - 1)
        found[:] = np.int32(count)
        for vertex in range(count):
            h = np.uint64(0)
            for w in range(words):
                h = (h + np.uint64(keys[vertex, w] + steps[w, j])) * _GOLDEN
            slot = h >> np.uint64(64 - bits)
            while True:
                other = np.int64(table[slot])
                if other < 0:
                    break
                same = True
                for w in range(words):
                    same &= keys[other, w] == keys[vertex, w] + steps[w, j]
                if same:
                    # Symmetric: one look-up serves both.
                    found[vertex, 0] = other
                    found[other, 1] = vertex
                    break
                slot = (slot + np.uint64(1)) & mask

    def diagonal(corners, weights, around, out):
        """K(i, i) without alpha: what a unit at point i gives back to it.

        The corners of a simplex form a cycle, each one step back along another axis from the one before. Blurring
        leads from one corner to another along either arc of the cycle, over the arc's axes in rising order, with one
        half per step, and only if every vertex in between exists.
        """
        n = corners.shape[0]
        missing = around.shape[1]
        axis = np.empty(D, np.int64)
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
                            first = m if side == 0 else (m - length) % D
                            vertex = np.int64(corners[i, m])
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

    return Kernels(jit(build), jit(merge), jit(neighbours), jit(diagonal), relaxed_jit(splat), relaxed_jit(gather))


@jit
def rename(names, corners):
    """Replace the numbers of vertices (N, D) by the names that they have."""
    for i in range(corners.shape[0]):
        for m in range(corners.shape[1]):
            corners[i, m] = names[np.uint32(corners[i, m])]


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
