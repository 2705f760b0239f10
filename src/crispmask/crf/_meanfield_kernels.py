"""Compiled mean-field updates: filtering, update and the next splat in one walk over the pixels.

What a pixel needs (its corners and weights, its unary, its probabilities) is read from memory once per iteration
instead of once per stage; that walk is bound by memory, so this halves its time. Rows of the image go through
buffers that stay in the first-level cache. The Gaussian is filtered along x one radius ahead of the row that is
updated, so the probabilities can be overwritten in place.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from crispmask.crf._gaussian_kernels import horizontal, vertical
from crispmask.crf._numba import exp, relaxed_jit

# exp(-60) = 9e-27 stands for zero: far below any effect, far above the denormal numbers that make processors slow.
_FLOOR = np.float32(-60)
# Channels are padded to a multiple of this, the floats of one 256-bit register.
LANES = 8


class Kernels(NamedTuple):
    """Compiled functions for lattices of one dimension."""

    two_labels: Any
    labels: Any


@lru_cache(maxsize=None)
def make(corner_count: int) -> Kernels:
    """Updates for a lattice with `corner_count` = d + 1 corners per point; 0 for none."""
    D = corner_count

    def two_labels(  # type: ignore[no-untyped-def]
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
        ring = np.empty((2 * radius + 1, width), np.float32)
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
                    horizontal(there, pre_y[ahead], pre_x, taps_x, 1, padded, ring[ahead % ring.shape[0]])
                vertical(ring, y, height, taps_y, gaussian_weight * post_y[y], post_x, 1, row)
                for i in range(size):
                    x[i] += row[i]
            if read and D > 0:
                for i in range(size):
                    total = np.float32(0)
                    for m in range(D):
                        total += weights[m, start + i] * old[corners[m, start + i]]
                    x[i] += lattice_weight * post[start + i] * total
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
                        new[corners[m, start + i]] += weights[m, start + i] * value

    def labels(  # type: ignore[no-untyped-def]
        unary, extra, own, negative_compatibility, state, count, lanes, width, read, write,
        lattice_weight, corners, weights, pre, post, old, new,
        gaussian_weight, taps_y, taps_x, pre_y, pre_x, post_y, post_x,
    ):  # fmt: skip
        """One update of all labels' probabilities in `state` (N * lanes,); see `meanfield.labels`.

        `lanes` is the number of labels `count`, padded; the padding's probabilities are kept at zero.
        """
        n = state.shape[0] // lanes
        height = (n + width - 1) // width
        smooth = taps_y.shape[0] > 0 and read
        radius = taps_y.shape[0] - 1 if smooth else 0
        padded = np.zeros((width + 2 * max(0, taps_x.shape[0] - 1)) * lanes, np.float32)
        ring = np.empty((2 * radius + 1, width * lanes), np.float32)
        message = np.empty(width * lanes, np.float32)
        mixed = np.empty(lanes, np.float32)
        if write:
            new[:] = np.float32(0)
        if smooth:
            for y in range(min(radius, height)):
                there = state[y * width * lanes : (y + 1) * width * lanes]
                horizontal(there, pre_y[y], pre_x, taps_x, lanes, padded, ring[y])
        for y in range(height):
            start = y * width
            size = min(width, n - start)
            here = state[start * lanes : (start + size) * lanes]
            base = unary[start * lanes : (start + size) * lanes]
            message[:] = np.float32(0)
            if smooth:
                ahead = y + radius
                if ahead < height:
                    there = state[ahead * width * lanes : (ahead + 1) * width * lanes]
                    horizontal(there, pre_y[ahead], pre_x, taps_x, lanes, padded, ring[ahead % ring.shape[0]])
                vertical(ring, y, height, taps_y, gaussian_weight * post_y[y], post_x, lanes, message)
            if extra.shape[0] > 0:
                for i in range(size * lanes):
                    message[i] += extra[start * lanes + i]
            for i in range(size):
                into = message[i * lanes : (i + 1) * lanes]
                q = here[i * lanes : (i + 1) * lanes]
                if read and D > 0:
                    scale = lattice_weight * post[start + i]
                    for m in range(D):
                        weight = scale * weights[m, start + i]
                        vertex = np.int64(corners[m, start + i])
                        values = old[vertex * lanes : (vertex + 1) * lanes]
                        for k in range(lanes):
                            into[k] += weight * values[k]
                if read and own.shape[0] > 0:
                    for k in range(lanes):
                        into[k] -= own[start + i] * q[k]
                if read and negative_compatibility.shape[0] > 0:
                    mixed[:] = np.float32(0)
                    for b in range(negative_compatibility.shape[0]):
                        for k in range(lanes):
                            mixed[k] += negative_compatibility[b, k] * into[b]
                    into[:] = mixed
                energy = base[i * lanes : (i + 1) * lanes]
                for k in range(lanes):
                    into[k] -= energy[k]
                best = into[0]
                for k in range(1, count):
                    best = max(best, into[k])
                for k in range(lanes):
                    q[k] = exp(max(_FLOOR, min(np.float32(0), into[k] - best)))
                for k in range(count, lanes):
                    q[k] = np.float32(0)
                total = np.float32(0)
                for k in range(lanes):
                    total += q[k]
                share = np.float32(1) / total
                for k in range(lanes):
                    q[k] *= share
            if write and D > 0:
                for i in range(size):
                    q = here[i * lanes : (i + 1) * lanes]
                    for m in range(D):
                        weight = pre[start + i] * weights[m, start + i]
                        vertex = np.int64(corners[m, start + i])
                        values = new[vertex * lanes : (vertex + 1) * lanes]
                        for k in range(lanes):
                            values[k] += weight * q[k]

    return Kernels(relaxed_jit(two_labels), relaxed_jit(labels))
