"""Compiled mean-field updates: filtering, update and the next splat in one walk over the pixels.

What a pixel needs (its corners and weights, its unary, its probabilities) is read from memory once per iteration
instead of once per stage; that walk is bound by memory, so this halves its time. Rows of the image go through
buffers that stay in the first-level cache. The Gaussian is filtered along x one radius ahead of the row that is
updated, so the probabilities can be overwritten in place.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from crispmask.crf._gaussian_kernels import horizontal, vertical
from crispmask.crf._numba import LANES, add_scaled, exp, highest, relaxed_jit, set_scaled, total

# exp(-60) = 9e-27 stands for zero: far below any effect, far above the denormal numbers that make processors slow.
_FLOOR = np.float32(-60)
# Floats that one stage after the other works on, so that they stay in the first-level cache.
_TILE = 2048


class Kernels(NamedTuple):
    """Compiled functions for lattices of one dimension."""

    two_labels: Any
    labels: Any


@cache
def make(corner_count: int) -> Kernels:
    """Updates for a lattice with `corner_count` = d + 1 corners per point; 0 for none."""
    D = corner_count

    def two_labels(
        difference, own, state, width, read, write, last,
        lattice_weight, corners, weights, pre, post, old, new,
        gaussian_weight, taps_y, taps_x, pre_y, pre_x, post_y, post_x,
    ):  # fmt: skip
        """One update of q - 1/2 in `state`, q the probability of label 1; see `meanfield.two_labels`.

        read, write: whether messages are taken into account (not on the first pass, which starts from the unary) and
        whether the lattice values `new` are filled for the next. On the `last` pass the state becomes q itself.
        """
        n = state.shape[0]
        height = (n + width - 1) // width
        smooth = taps_y.shape[0] > 0 and read
        radius = taps_y.shape[0] - 1 if smooth else 0
        padded = np.zeros(width + 2 * max(0, taps_x.shape[0] - 1), np.float32)
        ring = np.zeros((2 * radius + 2, width), np.float32)
        row = np.empty(width, np.float32)
        x = np.empty(width, np.float32)
        if write:
            new[:] = np.float32(0)
        if smooth:
            for y in range(min(radius, height)):
                horizontal(state[y * width : (y + 1) * width], pre_y[y], pre_x, taps_x, 1, padded, ring[y])
        for y in range(height):
            start = y * width
            size = min(width, n - start)
            here = state[start : start + size]
            base = difference[start : start + size]
            for i in range(size):
                x[i] = base[i]
            if smooth:
                ahead = y + radius
                if ahead < height:
                    there = state[ahead * width : (ahead + 1) * width]
                    horizontal(there, pre_y[ahead], pre_x, taps_x, 1, padded, ring[ahead % (2 * radius + 1)])
                vertical(ring, y, height, taps_y, gaussian_weight * post_y[y], post_x, row)
                for i in range(size):
                    x[i] += row[i]
            if read and D > 0:
                for i in range(size):
                    received = np.float32(0)
                    for m in range(D):
                        received += weights[start + i, m] * old[corners[start + i, m]]
                    x[i] += lattice_weight * post[start + i] * received
            if read and own.shape[0] > 0:
                for i in range(size):
                    x[i] -= own[start + i] * here[i]
            offset = np.float32(0) if last else np.float32(0.5)
            for i in range(size):
                e = exp(max(_FLOOR, min(-_FLOOR, x[i])))
                here[i] = np.float32(1) / (np.float32(1) + e) - offset
            if write and D > 0:
                for i in range(size):
                    value = pre[start + i] * here[i]
                    for m in range(D):
                        new[corners[start + i, m]] += weights[start + i, m] * value

    def labels(
        unary, extra, own, negative_compatibility, state, lanes, width, read, write,
        lattice_weight, corners, weights, pre, post, old, new,
        gaussian_weight, taps_y, taps_x, pre_y, pre_x, post_y, post_x,
    ):  # fmt: skip
        """One update of all labels' probabilities in `state` (N * lanes,); see `meanfield.labels`.

        `lanes` is the number of labels, padded with labels of enormous unary, whose probabilities are next to nothing.
        """
        n = state.shape[0] // lanes
        height = (n + width - 1) // width
        smooth = taps_y.shape[0] > 0 and read
        radius = taps_y.shape[0] - 1 if smooth else 0
        padded = np.zeros((width + 2 * max(0, taps_x.shape[0] - 1)) * lanes, np.float32)
        ring = np.zeros((2 * radius + 2, width * lanes), np.float32)
        message = np.empty(width * lanes, np.float32)
        mixed = np.empty(lanes, np.float32)
        ones = np.ones(LANES, np.float32)
        tile_size = max(1, _TILE // lanes)
        if write:
            new[:] = np.float32(0)
        if smooth:
            for y in range(min(radius, height)):
                below = state[y * width * lanes : (y + 1) * width * lanes]
                horizontal(below, pre_y[y], pre_x, taps_x, lanes, padded, ring[y])
        for y in range(height):
            size = min(width, n - y * width)
            if smooth:
                ahead = y + radius
                if ahead < height:
                    below = state[ahead * width * lanes : (ahead + 1) * width * lanes]
                    horizontal(below, pre_y[ahead], pre_x, taps_x, lanes, padded, ring[ahead % (2 * radius + 1)])
                vertical(ring, y, height, taps_y, gaussian_weight * post_y[y], post_x, message)
            else:
                message[:] = np.float32(0)
            for tile in range(0, size, tile_size):
                start = y * width + tile
                count = min(tile_size, size - tile)
                first = start * lanes
                logits = message[tile * lanes : (tile + count) * lanes]
                if extra.shape[0] > 0:
                    more = extra[first : first + count * lanes]
                    for k in range(count * lanes):
                        logits[k] += more[k]
                if read and D > 0:
                    for i in range(count):
                        scale = lattice_weight * post[start + i]
                        for m in range(D):
                            weight = scale * weights[start + i, m]
                            vertex = np.int64(corners[start + i, m]) * lanes
                            for k in range(0, lanes, LANES):
                                add_scaled(logits, i * lanes + k, old, vertex + k, weight)
                if read and own.shape[0] > 0:
                    for i in range(count):
                        for k in range(0, lanes, LANES):
                            add_scaled(logits, i * lanes + k, state, first + i * lanes + k, -own[start + i])
                if read and negative_compatibility.shape[0] > 0:
                    for i in range(count):
                        here = i * lanes
                        mixed[:] = np.float32(0)
                        for b in range(negative_compatibility.shape[0]):
                            for k in range(0, lanes, LANES):
                                add_scaled(mixed, k, negative_compatibility[b], k, logits[here + b])
                        logits[here : here + lanes] = mixed
                # Softmax of message - unary.
                energies = unary[first : first + count * lanes]
                for k in range(count * lanes):
                    logits[k] -= energies[k]
                for i in range(count):
                    here = i * lanes
                    best = highest(logits, here)
                    for k in range(LANES, lanes, LANES):
                        best = max(best, highest(logits, here + k))
                    for k in range(0, lanes, LANES):
                        add_scaled(logits, here + k, ones, 0, -best)
                for k in range(count * lanes):
                    logits[k] = exp(max(_FLOOR, logits[k]))
                for i in range(count):
                    here = i * lanes
                    there = first + i * lanes
                    mass = np.float32(0)
                    for k in range(0, lanes, LANES):
                        mass += total(logits, here + k)
                    for k in range(0, lanes, LANES):
                        set_scaled(state, there + k, logits, here + k, np.float32(1) / mass)
                    if write and D > 0:
                        for m in range(D):
                            weight = pre[start + i] * weights[start + i, m]
                            vertex = np.int64(corners[start + i, m]) * lanes
                            for k in range(0, lanes, LANES):
                                add_scaled(new, vertex + k, state, there + k, weight)

    return Kernels(relaxed_jit(two_labels), relaxed_jit(labels))
