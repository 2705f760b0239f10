"""Compiled loops of the separable Gaussian.

A row holds `stride` interleaved channels per pixel, and so do the factors `pre` and `post` along it. Half kernels have
1 + 4n taps, and four are applied at a time: a tile is loaded and stored once for eight neighbours.
"""

from __future__ import annotations

import numpy as np

from crispmask.crf._numba import relaxed_jit

# Floats that one tap after the other is added to: they and their sources stay in the first-level cache.
_TILE = 1024

# Inner loops run over slices from zero: an index with an offset might be negative as far as Numba knows, and then
# nothing vectorises.


@relaxed_jit
def _add_four(out, taps, a, b, c, d, e, f, g, h):
    first, second, third, fourth = taps[0], taps[1], taps[2], taps[3]
    for i in range(out.shape[0]):
        out[i] += first * (a[i] + b[i]) + second * (c[i] + d[i]) + third * (e[i] + f[i]) + fourth * (g[i] + h[i])


@relaxed_jit
def horizontal(row, factor, pre, taps, stride, padded, out):
    """Filter one row (W * stride,); `padded` has room for its radius on either side and zeros there."""
    radius = taps.shape[0] - 1
    margin = radius * stride
    length = pre.shape[0]
    inside = padded[margin : margin + length]
    for i in range(length):
        inside[i] = row[i] * (factor * pre[i])
    for start in range(0, length, _TILE):
        size = min(_TILE, length - start)
        here = out[start : start + size]
        center = padded[margin + start : margin + start + size]
        for i in range(size):
            here[i] = taps[0] * center[i]
        for t in range(1, radius + 1, 4):
            left, right = margin + start - t * stride, margin + start + t * stride
            a, b = padded[left : left + size], padded[right : right + size]
            left, right = left - stride, right + stride
            c, d = padded[left : left + size], padded[right : right + size]
            left, right = left - stride, right + stride
            e, f = padded[left : left + size], padded[right : right + size]
            left, right = left - stride, right + stride
            g, h = padded[left : left + size], padded[right : right + size]
            _add_four(here, taps[t : t + 4], a, b, c, d, e, f, g, h)


@relaxed_jit
def _row(ring, y, height):
    slots = ring.shape[0] - 1
    return ring[y % slots if 0 <= y < height else slots]


@relaxed_jit
def vertical(ring, y, height, taps, factor, post, out):
    """Row y of the result from the horizontally filtered rows: row j is ring[j % (len - 1)], the last one is zero."""
    for start in range(0, post.shape[0], _TILE):
        stop = min(start + _TILE, post.shape[0])
        here = out[start:stop]
        center = _row(ring, y, height)[start:stop]
        for i in range(stop - start):
            here[i] = taps[0] * center[i]
        for t in range(1, taps.shape[0], 4):
            a, b = _row(ring, y - t, height)[start:stop], _row(ring, y + t, height)[start:stop]
            c, d = _row(ring, y - t - 1, height)[start:stop], _row(ring, y + t + 1, height)[start:stop]
            e, f = _row(ring, y - t - 2, height)[start:stop], _row(ring, y + t + 2, height)[start:stop]
            g, h = _row(ring, y - t - 3, height)[start:stop], _row(ring, y + t + 3, height)[start:stop]
            _add_four(here, taps[t : t + 4], a, b, c, d, e, f, g, h)
        scale = post[start:stop]
        for i in range(stop - start):
            here[i] *= factor * scale[i]


@relaxed_jit
def filter_grid(image, taps_y, taps_x, pre_y, pre_x, post_y, post_x, out):
    """One channel (H, W); `out` may be `image`: a row is read before rows that depend on it are written."""
    height, width = image.shape
    radius = taps_y.shape[0] - 1
    padded = np.zeros(width + 2 * (taps_x.shape[0] - 1), np.float32)
    ring = np.zeros((2 * radius + 2, width), np.float32)
    for y in range(min(radius, height)):
        horizontal(image[y], pre_y[y], pre_x, taps_x, 1, padded, ring[y])
    for y in range(height):
        ahead = y + radius
        if ahead < height:
            horizontal(image[ahead], pre_y[ahead], pre_x, taps_x, 1, padded, ring[ahead % (2 * radius + 1)])
        vertical(ring, y, height, taps_y, post_y[y], post_x, out[y])
