"""The loops of `resampling`."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from crispmask.crf._numba import relaxed_jit


@relaxed_jit
def taps(start, end, count, length, first, last):
    """See `resampling.taps`."""
    step = (end - start) / count
    support = max(step, 1.0)
    spans = np.empty((count, 2), np.int64)
    weights = np.zeros((count, 2 * int(np.ceil(support)) + 2), np.float32)
    for i in range(count):
        centre = start + (i + 0.5) * step
        low, high = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), length)
        total = 0.0
        for k in range(low, high):
            total += max(0.0, 1 - abs(k + 0.5 - centre) / support)
        begin, stop = max(low, first), min(high, last)
        spans[i, 0], spans[i, 1] = begin, max(begin, stop)
        for k in range(begin, stop):
            weights[i, k - begin] = max(0.0, 1 - abs(k + 0.5 - centre) / support) / total
    return spans, weights


@cache
def resample(channels: int) -> Any:
    """The loop for so many channels."""
    C = channels

    def loop(values, top, left, rows, columns, half, out):
        """Fill `out` (h, w * C) from values (H, W * C); see `resampling.resampled`.

        top, left: where in `values` the first row and column lie. half: what is added before a result is rounded down.
        """
        row_spans, row_weights = rows
        column_spans, column_weights = columns
        width = out.shape[1] // C
        begin, stop = 1 << 60, 0
        for x in range(width):
            if column_spans[x, 0] < column_spans[x, 1]:
                begin, stop = min(begin, column_spans[x, 0]), max(stop, column_spans[x, 1])
        size = (stop - begin) * C if stop else 0
        mixed, line = np.empty(size, np.float32), np.empty(out.shape[1], np.float32)
        offset = (left + begin) * C if stop else 0
        for y in range(out.shape[0]):
            mixed[:] = 0
            for k in range(row_spans[y, 0], row_spans[y, 1]):
                weight, source = row_weights[y, k - row_spans[y, 0]], values[top + k, offset : offset + size]
                for i in range(size):
                    mixed[i] += weight * source[i]
            for x in range(width):
                low, count = column_spans[x, 0] - begin, column_spans[x, 1] - column_spans[x, 0]
                if C == 3:
                    r = g = b = np.float32(half)
                    for k in range(count):
                        weight, place = column_weights[x, k], np.uint64((low + k) * 3)
                        r += weight * mixed[place]
                        g += weight * mixed[place + np.uint64(1)]
                        b += weight * mixed[place + np.uint64(2)]
                    place = np.uint64(3 * x)
                    line[place], line[place + np.uint64(1)], line[place + np.uint64(2)] = r, g, b
                else:
                    total = np.float32(half)
                    for k in range(count):
                        total += column_weights[x, k] * mixed[np.uint64(low + k)]
                    line[np.uint64(x)] = total
            for i in range(line.shape[0]):
                out[y, i] = line[i]

    return relaxed_jit(loop)
