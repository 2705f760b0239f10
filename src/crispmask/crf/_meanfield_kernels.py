"""Compiled mean-field updates: filtering, update and the next splat in one pass over the pixels.

The data of a pixel (its corners and weights, its unary, its probabilities) are read from memory once per iteration
instead of once per stage. Because the loop is limited by memory bandwidth, this halves its time. Rows of the image are
processed in buffers that fit into the first-level cache. The Gaussian is filtered along x one radius ahead of the row
that is updated, so that the probabilities can be overwritten.

Each call processes a strip of rows. It gets copies of the rows beside the strip, which another thread may have updated.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from crispmask.crf._gaussian_kernels import horizontal, row_length, tile_for, vertical
from crispmask.crf._lanes import (
    WIDTH,
    at_least,
    exp_lanes,
    fused,
    highest,
    load,
    minus,
    plus,
    prefetch,
    scaled,
    store,
    total,
)
from crispmask.crf._numba import exp, relaxed_jit

# Exponents are limited to ±60: exp(-60) = 9e-27 has no effect, and is far above the slow denormal numbers.
_FLOOR = np.float32(-60)
# Floats that a stage processes at a time, few enough for the first-level cache.
_PIECE = 256


@relaxed_jit
def _source(state, above, below, y, first, last, length):
    """Row y of the state before the update; `above` and `below` hold the rows beside those from `first` to `last`."""
    if y < first:
        end = above.shape[0] - (first - 1 - y) * length
        return above[end - length : end]
    if y >= last:
        return below[(y - last) * length : (y - last + 1) * length]
    return state[y * length : (y + 1) * length]


@cache
def two_labels(corner_count: int, among: bool) -> Any:
    """Update of two labels for a lattice with `corner_count` = d + 1 corners per point; 0 for none.

    With `among`, the lattice knows some of the points only.
    """
    D, ALL, SOME = corner_count, corner_count > 0 and not among, corner_count > 0 and among

    def update_two(
        difference, own, state, above, below, width, first, last, read, write,
        points, ends, lattice_weight, corners, weights, pre, post, old, new,
        gaussian_weight, taps_y, taps_x, pre_y, pre_x, post_y, post_x,
    ):  # fmt: skip
        """One update of q - 1/2 in `state`, q the probability of label 1; see `meanfield.two_labels`.

        above, below: copies of the rows before `first` and from `last` on, as far as the Gaussian reaches.
        points, ends: the points that the lattice knows, those of row y from ends[y] to ends[y + 1]; with `among` only.
        read: whether messages are added; not in the first pass, which starts from the unary.
        write: whether to fill the lattice values `new` for the next pass; if not (the last pass), the state becomes q.
        """
        n = state.shape[0]
        height = (n + width - 1) // width
        smooth = taps_y.shape[0] > 0 and read
        radius = taps_y.shape[0] - 1 if smooth else 0
        length = row_length(width)
        tile = tile_for(taps_x, 1)
        ring = np.zeros((2 * radius + 2, length), np.float32)
        row = np.empty(length, np.float32)
        x = np.empty(width, np.float32)
        if write:
            new[:] = np.float32(0)
        if smooth:
            for y in range(max(0, first - radius), min(first + radius, height)):
                there = _source(state, above, below, y, first, last, width)
                horizontal(there, pre_y[y], pre_x, taps_x, 1, tile, ring[y % (2 * radius + 1)])
        for y in range(first, last):
            start = y * width
            size = min(width, n - start)
            here = state[start : start + size]
            base = difference[start : start + size]
            for i in range(size):
                x[i] = base[i]
            if smooth:
                ahead = y + radius
                if ahead < height:
                    there = _source(state, above, below, ahead, first, last, width)
                    horizontal(there, pre_y[ahead], pre_x, taps_x, 1, tile, ring[ahead % (2 * radius + 1)])
                vertical(ring, y, height, taps_y, gaussian_weight * post_y[y], post_x, row)
                for i in range(size):
                    x[i] += row[i]
            if D > 0:  # as slices, whose indices start from zero: see `_lattice_filters`
                begin, end = (ends[y], ends[y + 1]) if SOME else (start, start + size)
                places, shares = corners[begin:end], weights[begin:end]
                before, after = pre[begin:end], post[begin:end]
                known = points[begin:end]
            if read and SOME:
                for k in range(end - begin):
                    received = np.float32(0)
                    for m in range(D):
                        received += shares[k, m] * old[np.uint32(places[k, m])]
                    x[np.uint32(known[k] - start)] += lattice_weight * after[k] * received
            if read and ALL:
                for i in range(size):
                    received = np.float32(0)
                    for m in range(D):
                        received += shares[i, m] * old[np.uint32(places[i, m])]
                    x[i] += lattice_weight * after[i] * received
            if read and own.shape[0] > 0:
                for i in range(size):
                    x[i] -= own[start + i] * here[i]
            offset = np.float32(0.5) if write else np.float32(0)
            for i in range(size):
                e = exp(max(_FLOOR, min(-_FLOOR, x[i])))
                here[i] = np.float32(1) / (np.float32(1) + e) - offset
            if write and SOME:
                for k in range(end - begin):
                    value = before[k] * here[np.uint32(known[k] - start)]
                    for m in range(D):
                        new[np.uint32(places[k, m])] += shares[k, m] * value
            if write and ALL:
                for i in range(size):
                    value = before[i] * here[i]
                    for m in range(D):
                        new[np.uint32(places[i, m])] += shares[i, m] * value

    return relaxed_jit(update_two)


@cache
def labels(corner_count: int, blocks: int, lanes: int) -> Any:
    """Update of all labels for such a lattice; `blocks` and `lanes` as `_lanes.shape_of` says."""
    D, step = corner_count, blocks * WIDTH

    def update_many(
        unary, extra, own, negative_compatibility, state, above, below, width, first, last, read, write,
        lattice_weight, corners, weights, pre, post, old, new,
        gaussian_weight, taps_y, taps_x, pre_y, pre_x, post_y, post_x,
    ):  # fmt: skip
        """One update of all labels' probabilities in `state` (N * lanes,); see `meanfield.labels`.

        `lanes` is the number of labels, padded by labels with a unary so high that their probabilities are almost zero.
        """
        n = state.shape[0] // lanes
        height = (n + width - 1) // width
        smooth = taps_y.shape[0] > 0 and read
        radius = taps_y.shape[0] - 1 if smooth else 0
        length = row_length(width * lanes)
        tile = tile_for(taps_x, lanes)
        ring = np.zeros((2 * radius + 2, length), np.float32)
        message = np.zeros(length, np.float32)
        # Each stage processes a few points before the next stage begins: the stages of one point depend on each other,
        # those of several points run in parallel in the processor. That, `lanes` as a constant, and prefetching the row
        # that the Gaussian reads next save a fifth of the time (21 labels).
        piece = max(1, _PIECE // lanes)
        logits = np.empty(piece * lanes, np.float32)
        best = np.empty(piece, np.float32)
        scale = np.empty(piece, np.float32)
        mixed = np.empty(lanes, np.float32)
        if write:
            new[:] = np.float32(0)
        if smooth:
            for y in range(max(0, first - radius), min(first + radius, height)):
                there = _source(state, above, below, y, first, last, width * lanes)
                horizontal(there, pre_y[y], pre_x, taps_x, lanes, tile, ring[y % (2 * radius + 1)])
        for y in range(first, last):
            size = min(width, n - y * width)
            if smooth:
                ahead = y + radius
                if ahead < height:
                    there = _source(state, above, below, ahead, first, last, width * lanes)
                    horizontal(there, pre_y[ahead], pre_x, taps_x, lanes, tile, ring[ahead % (2 * radius + 1)])
                vertical(ring, y, height, taps_y, gaussian_weight * post_y[y], post_x, message)
            for begin in range(0, size, piece):
                count = min(piece, size - begin)
                for i in range(count):
                    point = y * width + begin + i
                    here, at, to = (begin + i) * lanes, point * lanes, i * lanes
                    top = -np.float32(np.inf)
                    for k in range(0, lanes, step):
                        x = load(message, here + k, blocks)
                        if read and D > 0:
                            received = scaled(x, np.float32(0))
                            for m in range(D):
                                vertex = np.int64(corners[point, m]) * lanes
                                received = fused(load(old, vertex + k, blocks), weights[point, m], received)
                            x = fused(received, lattice_weight * post[point], x)
                        if extra.shape[0] > 0:
                            x = plus(x, load(extra, at + k, blocks))
                        if read and own.shape[0] > 0:
                            x = fused(load(state, at + k, blocks), -own[point], x)
                        if negative_compatibility.shape[0] == 0:
                            x = minus(x, load(unary, at + k, blocks))
                            top = max(top, highest(x))
                        store(logits, to + k, x)
                    best[i] = top
                if negative_compatibility.shape[0] > 0:
                    for i in range(count):
                        at, to = (y * width + begin + i) * lanes, i * lanes
                        top = -np.float32(np.inf)
                        for k in range(0, lanes, step):
                            x = minus(np.float32(0), load(unary, at + k, blocks))
                            for b in range(negative_compatibility.shape[0]):
                                x = fused(load(negative_compatibility[b], k, blocks), logits[to + b], x)
                            top = max(top, highest(x))
                            store(mixed, k, x)
                        logits[to : to + lanes] = mixed
                        best[i] = top
                for i in range(count):
                    mass = np.float32(0)
                    if smooth:
                        next_row = ((y + radius + 1) * width + begin + i) * lanes
                        for k in range(0, lanes, 16):
                            prefetch(state, next_row + k)
                    for k in range(i * lanes, (i + 1) * lanes, step):
                        e = exp_lanes(at_least(minus(load(logits, k, blocks), best[i]), _FLOOR))
                        mass += total(e)
                        store(logits, k, e)
                    scale[i] = np.float32(1) / mass
                for i in range(count):
                    point = y * width + begin + i
                    at, to = point * lanes, i * lanes
                    for k in range(0, lanes, step):
                        q = scaled(load(logits, to + k, blocks), scale[i])
                        store(state, at + k, q)
                        if write and D > 0:
                            for m in range(D):
                                vertex = np.int64(corners[point, m]) * lanes
                                weight = pre[point] * weights[point, m]
                                store(new, vertex + k, fused(q, weight, load(new, vertex + k, blocks)))

    return relaxed_jit(update_many)
