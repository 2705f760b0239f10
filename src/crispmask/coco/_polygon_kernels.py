"""The loops that fill polygons, column by column. Source: ``rleFrPoly`` in pycocotools' ``maskApi.c``.

That function walks along every edge in steps of a fifth of a pixel and keeps them all. Here the steps are computed that
cross the centre line of a column, with the same arithmetic, and columns are worked on a strip at a time.

Corners are int64 (n, 2), x and y in fifths of a pixel, those of all polygons one after the other; `offsets` int64
(P + 1,), where each polygon begins.
"""

from __future__ import annotations

import numpy as np

from crispmask.runtime import jit


@jit
def edge_columns(x, other, first, end):
    """The columns in [first, end) whose centre lines an edge from x to other crosses, as [low, high)."""
    low, high = min(x, other), max(x, other)
    return max(first, -((2 - low) // 5)), min(end, (high + 2) // 5)


@jit
def count_crossings(corners, offsets, first, counts):
    """Fill `counts`, int64 (columns,), with how often edges cross the centre line of each column from `first` on."""
    counts[:] = 0
    end = first + len(counts)
    for i in range(len(offsets) - 1):
        last = offsets[i + 1] - 1
        for j in range(offsets[i], offsets[i + 1]):
            low, high = edge_columns(corners[last, 0], corners[j, 0], first, end)
            if low < high:
                counts[low - first] += 1
                if high < end:
                    counts[high - first] -= 1
            last = j
    for k in range(1, len(counts)):
        counts[k] += counts[k - 1]


@jit
def crossing(x, y, other_x, other_y, column):
    """The row, in fifths of a pixel, at which an edge crosses the centre line of a column.

    The arithmetic is that of ``rleFrPoly``, which walks along the edge in steps of a fifth: this takes the one step
    that crosses the line.
    """
    dx, dy = abs(other_x - x), abs(other_y - y)
    if (dx >= dy and x > other_x) or (dx < dy and y > other_y):
        x, y, other_x, other_y = other_x, other_y, x, y
    line = 5 * column + 2  # between this fifth and the next
    if dx >= dy:
        slope, t = (other_y - y) / dx, line - x
        return min(np.int64(y + slope * t + 0.5), np.int64(y + slope * (t + 1) + 0.5))
    slope = (other_x - x) / dy
    t = min(max(np.int64((line + 0.5 - x) / slope), 1), dy)
    # The division is right but for rounding: t is the first step beyond the line.
    while t > 1 and (np.int64(x + slope * (t - 1) + 0.5) > line) == (slope > 0):
        t -= 1
    while t < dy and (np.int64(x + slope * t + 0.5) > line) != (slope > 0):
        t += 1
    return t - 1 + y


@jit
def fill(corners, offsets, height, width, first, counts, room):
    """The union of polygons as run lengths.

    Args:
        height, width: H and W of the image, pixels.
        first, counts: the first column, and of it and those that follow the crossings; see `count_crossings`.
        room: crossings that are held at a time, if no column has more.

    Returns:
        int64 (n,), the lengths of runs down the columns, in turn of background and foreground, with the sum H * W.
    """
    changes, n, begin, end = np.empty(1024, np.int64), 0, 0, 0
    events = np.empty(counts.max() if len(counts) else 0, np.int64)
    while begin < len(counts):
        total = 0
        while end < len(counts) and (end == begin or total + counts[end] <= room):
            total += counts[end]
            end += 1
        starts = np.zeros(end - begin + 1, np.int64)
        for k in range(begin, end):
            starts[k - begin + 1] = starts[k - begin] + counts[k]
        owner, rows = _crossed(corners, offsets, height, first + begin, starts)
        if n + total > len(changes):
            changes = np.concatenate((changes[:n], np.empty(n // 2 + total, np.int64)))
        for k in range(end - begin):
            m = _intervals(owner, rows, starts[k], starts[k + 1], events)
            n = _append(events[:m], (first + begin + k) * height, changes, n)
        begin = end
    if n and changes[n - 1] == height * width:
        n -= 1
    runs = np.empty(n + 1, np.int64)
    before = 0
    for i in range(n):
        runs[i] = changes[i] - before
        before = changes[i]
    runs[n] = height * width - before
    return runs


@jit
def _crossed(corners, offsets, height, first, starts):
    """The polygon and the row of every crossing of a strip of columns, column by column, polygon by polygon.

    Args:
        first: the first column; starts: int64 (columns + 1,), where the crossings of each begin.
    """
    owner, rows = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.int64)
    place, end = starts[:-1].copy(), first + len(starts) - 1
    for i in range(len(offsets) - 1):
        last = offsets[i + 1] - 1
        for j in range(offsets[i], offsets[i + 1]):
            low, high = edge_columns(corners[last, 0], corners[j, 0], first, end)
            for column in range(low, high):
                at = place[column - first]
                place[column - first] += 1
                y = crossing(corners[last, 0], corners[last, 1], corners[j, 0], corners[j, 1], column)
                owner[at], rows[at] = i, np.int64(np.ceil(min(max((y + 0.5) / 5 - 0.5, 0.0), float(height))))
            last = j
    return owner, rows


@jit
def _intervals(owner, rows, i, end, events):
    """Fill `events` with where polygons begin and end in a column, sorted; their number.

    A closed line crosses a column an even number of times: from the first crossing to the second it is inside, and so
    on. An event is twice the row, plus one for an end, so that at one row beginnings come before ends.

    Args:
        owner, rows: of crossings; those of the column are [i, end), sorted by owner.
    """
    n, polygons = 0, 0
    while i < end:
        j = i + 1
        while j < end and owner[j] == owner[i]:
            j += 1
        _sort(rows[i:j])
        for k in range(i, j - 1, 2):
            if rows[k] < rows[k + 1]:
                events[n], events[n + 1] = 2 * rows[k], 2 * rows[k + 1] + 1
                n += 2
        i = j
        polygons += 1
    if polygons > 1:
        _sort(events[:n])
    return n


@jit
def _sort(values):
    """Sort in place; most columns have few crossings."""
    if len(values) > 32:
        values[:] = np.sort(values)
        return
    for i in range(1, len(values)):
        value, j = values[i], i
        while j and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@jit
def _append(events, base, changes, n):
    """Append where the foreground of a column begins and ends to `changes`; how many values there are afterwards.

    Pixels are foreground where at least one polygon is inside. `base` is the number of the column's first pixel.
    """
    inside = 0
    for event in events:
        before = inside
        inside += 1 - 2 * (event & 1)
        if (before == 0) == (inside == 0):
            continue
        at = base + (event >> 1)
        if inside and n and changes[n - 1] == at:  # goes on from the foot of the column before, or from the row above
            n -= 1
        else:
            changes[n] = at
            n += 1
    return n
