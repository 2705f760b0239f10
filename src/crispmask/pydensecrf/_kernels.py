"""Compiled loops of mean field inference over a block of variables, for lattices of one dimension each.

`make(corners)` freezes the number of corners per point so that LLVM unrolls the inner loop: 245 k points in five
dimensions take 0.7 ms per channel to read from the lattice and not 1.2, on one core.

They use IEEE arithmetic in the original's order, without fused multiply-add. Where both labels are almost equally good,
an update multiplies every difference by about half the weight, so that ten updates can turn a difference in the last
bit into a visible one. For two labels, filtering only Q_0 - Q_1 would take 0.6 of the time, but changed single
marginals by up to 0.02.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from crispmask.crf._numba import exp, jit, relaxed_jit

# Probabilities below exp(-64) become zero, so that no denormal numbers slow the filter down. The original keeps them
# down to exp(-103); the difference of 1e-28 does not change any message.
_FLOOR = np.float32(-64)


class Kernels(NamedTuple):
    """Compiled functions for points with a given number of corners; `start` is the block's first variable."""

    gather_two: Any
    splat_two: Any
    gather: Any
    splat: Any


@cache
def make(corner_count: int) -> Kernels:
    """Kernels for a lattice with `corner_count` = d + 1 corners per point."""
    D = corner_count

    def gather_two(values, mu, corners, weights, alpha, after, start, x):
        """Subtract mu (2, 2) times the message of the channels `values` (M + 1, 2) from `x` (size, 2)."""
        for i in range(x.shape[0]):
            first, second = np.float32(0), np.float32(0)
            for m in range(D):
                weight, vertex = weights[start + i, m], np.uint32(corners[start + i, m])
                first += weight * values[vertex, 0] * alpha
                second += weight * values[vertex, 1] * alpha
            first *= after[start + i]
            second *= after[start + i]
            x[i, 0] -= mu[0, 0] * first + mu[0, 1] * second
            x[i, 1] -= mu[1, 0] * first + mu[1, 1] * second

    def splat_two(q, corners, weights, before, start, stop, values):
        """Add `q` (N, 2) to the channels `values` (M + 1, 2)."""
        for i in range(start, stop):
            first, second = before[i] * q[i, 0], before[i] * q[i, 1]
            for m in range(D):
                weight, vertex = weights[i, m], np.uint32(corners[i, m])
                values[vertex, 0] += weight * first
                values[vertex, 1] += weight * second

    def gather(values, mu, corners, weights, alpha, after, start, x):
        """Subtract mu times the message of all channels `values` (M + 1, lanes) from `x` (size, lanes).

        mu: (1, lanes) for a diagonal, else (lanes, lanes).
        """
        lanes = x.shape[1]
        message = np.empty(lanes, np.float32)
        for i in range(x.shape[0]):
            message[:] = np.float32(0)
            for m in range(D):
                weight, vertex = weights[start + i, m] * alpha, np.uint32(corners[start + i, m])
                for k in range(lanes):
                    message[k] += weight * values[vertex, k]
            for k in range(lanes):
                message[k] *= after[start + i]
            if mu.shape[0] == 1:
                for k in range(lanes):
                    x[i, k] -= mu[0, k] * message[k]
            else:
                for b in range(lanes):
                    for k in range(lanes):
                        x[i, k] -= mu[b, k] * message[b]

    def splat(q, corners, weights, before, start, stop, values):
        """Add `q` (N, lanes) to all channels `values` (M + 1, lanes)."""
        lanes = q.shape[1]
        scaled = np.empty(lanes, np.float32)
        for i in range(start, stop):
            for k in range(lanes):
                scaled[k] = before[i] * q[i, k]
            for m in range(D):
                weight, vertex = weights[i, m], np.uint32(corners[i, m])
                for k in range(lanes):
                    values[vertex, k] += weight * scaled[k]

    return Kernels(jit(gather_two), jit(splat_two), jit(gather), jit(splat))


@jit
def normalise_two(x, q, start):
    """`q` (N, 2) from the exponents `x` (size, 2): softmax, both values to their own relative precision."""
    size = x.shape[0]
    first, second = np.empty(size, np.float32), np.empty(size, np.float32)
    for i in range(size):
        difference = x[i, 0] - x[i, 1]
        distance = -abs(difference)
        small: Any = math.exp(max(_FLOOR, distance))
        total = np.float32(1) + small
        large = np.float32(1) / total
        small = small / total if distance > _FLOOR else np.float32(0)
        large = large if distance <= np.float32(0) else distance  # NaN stays NaN
        small = small if distance <= np.float32(0) else distance
        first[i] = large if difference >= np.float32(0) else small
        second[i] = small if difference >= np.float32(0) else large
    for i in range(size):  # a loop of its own, so that the one above vectorises: 0.4 ms, not 1.3, for 307 k variables
        q[start + i, 0] = first[i]
        q[start + i, 1] = second[i]


@relaxed_jit
def normalise(x, q, start):
    """`q` (N, lanes) from the exponents `x` (size, lanes): softmax; NaN where one is NaN, or none is finite.

    Relaxed, so that the sum does not keep the loop from vectorising: 13 ms and not 28 for 307 k variables, 21 labels.
    """
    lanes = x.shape[1]
    for i in range(x.shape[0]):
        best = x[i, 0]
        for k in range(1, lanes):
            best = max(best, x[i, k])
        total = np.float32(0)
        for k in range(lanes):
            distance = x[i, k] - best
            value = exp(max(_FLOOR, distance)) if distance > _FLOOR else np.float32(0)
            value = value if distance <= np.float32(0) else distance  # NaN stays NaN
            total += value
            q[start + i, k] = value
        for k in range(lanes):
            q[start + i, k] /= total
