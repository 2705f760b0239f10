"""Compiled loops of the separable Gaussian; the sum of a few registers is complete before it is stored.

A row holds `stride` interleaved channels per pixel, as do the factors `pre` and `post` along it. Rows that are written
are padded to a whole number of steps.
"""

from __future__ import annotations

import numpy as np

from crispmask.crf._lanes import MAX_BLOCKS, WIDTH, fused, load, plus, scaled, store
from crispmask.crf._numba import relaxed_jit

# Floats per step: as many registers as are used at once.
_STEP = MAX_BLOCKS * WIDTH


@relaxed_jit
def row_length(length):
    """The floats of a row, rounded up to whole steps."""
    return (length + _STEP - 1) // _STEP * _STEP


@relaxed_jit
def tile_for(taps, stride):
    """A buffer for `horizontal`: a part of a row that fits into the first-level cache, and its margins."""
    margin = max(0, taps.shape[0] - 1) * stride
    return np.zeros(row_length(max(1024, 4 * margin)) + 2 * margin, np.float32)


@relaxed_jit
def horizontal(row, factor, pre, taps, stride, tile, out):
    """Filter one row (W * stride,) into `out`."""
    radius = taps.shape[0] - 1
    margin = radius * stride
    room = tile.shape[0] - 2 * margin
    length = row.shape[0]
    for start in range(0, length, room):
        before = start - margin
        first, last = max(0, before), min(length, start + room + margin)
        tile[: first - before] = np.float32(0)
        tile[last - before :] = np.float32(0)
        inside, source, scale = tile[first - before : last - before], row[first:last], pre[first:last]
        for i in range(last - first):
            inside[i] = source[i] * (factor * scale[i])
        for k in range(0, min(room, length - start), _STEP):
            center = margin + k
            total = scaled(load(tile, center, MAX_BLOCKS), taps[0])
            for t in range(1, radius + 1):
                away = t * stride
                pair = plus(load(tile, center - away, MAX_BLOCKS), load(tile, center + away, MAX_BLOCKS))
                total = fused(pair, taps[t], total)
            store(out, start + k, total)


@relaxed_jit
def vertical(ring, y, height, taps, factor, post, out):
    """Row y of the result from the horizontally filtered rows: row j is ring[j % (len - 1)], the last one is zero."""
    radius = taps.shape[0] - 1
    slots, length = ring.shape[0] - 1, ring.shape[1]
    rows = ring.reshape(ring.size)
    place = np.empty(2 * radius + 1, np.int64)
    for t in range(2 * radius + 1):
        j = y + t - radius
        place[t] = (j % slots if 0 <= j < height else slots) * length
    for k in range(0, length, _STEP):
        total = scaled(load(rows, place[radius] + k, MAX_BLOCKS), taps[0])
        for t in range(1, radius + 1):
            above, below = place[radius - t] + k, place[radius + t] + k
            total = fused(plus(load(rows, above, MAX_BLOCKS), load(rows, below, MAX_BLOCKS)), taps[t], total)
        store(out, k, scaled(total, factor))
    for i in range(post.shape[0]):
        out[i] *= post[i]


@relaxed_jit
def filter_grid(image, taps_y, taps_x, pre_y, pre_x, post_y, post_x, out):
    """Filter one channel (H, W). `out` may be `image`: each row is read before it is overwritten."""
    height, width = image.shape
    radius = taps_y.shape[0] - 1
    length = row_length(width)
    tile = tile_for(taps_x, 1)
    ring = np.zeros((2 * radius + 2, length), np.float32)
    row = np.empty(length, np.float32)
    for y in range(min(radius, height)):
        horizontal(image[y], pre_y[y], pre_x, taps_x, 1, tile, ring[y])
    for y in range(height):
        ahead = y + radius
        if ahead < height:
            horizontal(image[ahead], pre_y[ahead], pre_x, taps_x, 1, tile, ring[ahead % (2 * radius + 1)])
        vertical(ring, y, height, taps_y, post_y[y], post_x, row)
        out[y] = row[:width]
