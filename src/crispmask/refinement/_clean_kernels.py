"""Connected parts of a mask, found by its runs."""

from __future__ import annotations

import numpy as np

from crispmask.runtime import jit


@jit
def _root(parents, k):
    while parents[k] != k:
        parents[k] = parents[parents[k]]
        k = parents[k]
    return k


@jit
def mark_small(mask, value, reach, least, spare, marked):
    """Mark the connected parts with an area below `least`; returns how many pixels that are.

    Args:
        mask: bool (h, w).
        value: of the pixels that make up parts.
        reach: 1 where pixels that touch at corners are connected too, 0 for sides only.
        least: pixels.
        spare: whether the largest part, the first of those, is never marked.
        marked: bool (h, w), in which they become True.
    """
    height, width = mask.shape
    most = height * ((width + 1) // 2)
    starts, ends, parents = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    firsts = np.empty(height + 1, np.int64)  # of each row, its first run
    count = above = 0
    for y in range(height):
        first, beside, x = count, above, 0
        firsts[y] = first
        while x < width:
            if mask[y, x] != value:
                x += 1
                continue
            start = x
            while x < width and mask[y, x] == value:
                x += 1
            starts[count], ends[count], parents[count] = start, x, count
            while beside < first and ends[beside] <= start - reach:
                beside += 1
            k = beside
            while k < first and starts[k] < x + reach:
                a, b = _root(parents, k), _root(parents, count)
                parents[max(a, b)] = min(a, b)
                k += 1
            count += 1
        above = first
    firsts[height] = count
    areas = np.zeros(count, np.int64)
    for k in range(count):
        areas[_root(parents, k)] += ends[k] - starts[k]
    largest = -1
    if spare:
        for k in range(count):
            if largest < 0 or areas[k] > areas[largest]:
                largest = k
    found = 0
    for y in range(height):
        for k in range(firsts[y], firsts[y + 1]):
            root = _root(parents, k)
            if root != largest and areas[root] < least:
                marked[y, starts[k] : ends[k]] = True
                found += ends[k] - starts[k]
    return found
