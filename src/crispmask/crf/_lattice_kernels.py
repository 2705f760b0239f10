"""Compiled loops that build a permutohedral lattice; `make(d, words)` freezes the dimension so that LLVM unrolls them.

Vertices are known by keys: their first d coordinates packed into 64-bit words. Packing is linear, so the key of a
vertex's neighbour, or of the next corner of a simplex, is the key plus a constant of the axis.

Here and in `_lattice_filters`, an index of a vertex is read as uint32. For a signed index, Numba adds three
instructions to each access because it might count from the end; in a filter pass they take a fifth of the time.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from crispmask.crf._numba import jit

# Points embedded at a time: their coordinates fit into the first-level cache, and every loop over them vectorises.
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
    """Bring the rank into 0..d, change the lattice point accordingly, and scale the residual to the weights' unit."""
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
    """Store each point's residual, and the step along its axis, at the place that its rank gives."""
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


@cache
def make(d: int, words: int) -> Kernels:
    """Kernels for features of dimension `d`, with keys of `words` 64-bit words."""
    D = d + 1

    def build(features, scale, strides, steps, begin, end, corners, weights):
        """Embed the points from `begin` to `end`; fill their rows of corners (N, D) and weights (N, D).

        Returns the vertices' keys, in the order in which the points need them first, and the hash table.

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
            # look-ups of neighbouring points run in parallel.)
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
        """The vertices one step back and one step forth along axis j: fills int32 (M, 2), M where there is none."""
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

    return Kernels(jit(build), jit(merge), jit(neighbours))


@jit
def rename(names, corners):
    """Replace each vertex's number within its strip by its number among all, in place; corners (N, D)."""
    for i in range(corners.shape[0]):
        for m in range(corners.shape[1]):
            corners[i, m] = names[np.uint32(corners[i, m])]
