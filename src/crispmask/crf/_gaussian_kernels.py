"""Compiled loops of the separable Gaussian.

A row holds `stride` interleaved channels per pixel, and so do the factors `pre` and `post` along it.
"""

from __future__ import annotations

import numpy as np

from crispmask.crf._numba import relaxed_jit

# Floats that one tap after the other is added to: they and their sources stay in the first-level cache (with 21
# labels, whole rows would not, at three times the time).
_TILE = 512

# Inner loops run over slices from zero: an index with an offset might be negative as far as Numba knows, and then
# nothing vectorises.


@relaxed_jit
def horizontal(row, factor, pre, taps, stride, padded, out):  # type: ignore[no-untyped-def]
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
        for t in range(1, radius + 1):
            weight = taps[t]
            left = padded[margin + start - t * stride : margin + start - t * stride + size]
            right = padded[margin + start + t * stride : margin + start + t * stride + size]
            for i in range(size):
                here[i] += weight * (left[i] + right[i])


@relaxed_jit
def vertical(ring, y, height, taps, factor, post, out):  # type: ignore[no-untyped-def]
    """Row y of the result from the horizontally filtered rows; row j is ring[j % len(ring)]."""
    radius = taps.shape[0] - 1
    slots = ring.shape[0]
    for start in range(0, post.shape[0], _TILE):
        size = min(_TILE, post.shape[0] - start)
        here = out[start : start + size]
        center = ring[y % slots, start : start + size]
        for i in range(size):
            here[i] = taps[0] * center[i]
        for t in range(1, radius + 1):
            weight = taps[t]
            if y - t >= 0 and y + t < height:
                above, below = ring[(y - t) % slots, start : start + size], ring[(y + t) % slots, start : start + size]
                for i in range(size):
                    here[i] += weight * (above[i] + below[i])
            elif y - t >= 0 or y + t < height:
                only = ring[(y - t if y - t >= 0 else y + t) % slots, start : start + size]
                for i in range(size):
                    here[i] += weight * only[i]
        scale = post[start : start + size]
        for i in range(size):
            here[i] *= factor * scale[i]


@relaxed_jit
def filter_grid(image, taps_y, taps_x, pre_y, pre_x, post_y, post_x, out):  # type: ignore[no-untyped-def]
    """One channel (H, W); `out` may be `image`: a row is read before rows that depend on it are written."""
    height, width = image.shape
    radius = taps_y.shape[0] - 1
    padded = np.zeros(width + 2 * (taps_x.shape[0] - 1), np.float32)
    ring = np.empty((2 * radius + 1, width), np.float32)
    for y in range(min(radius, height)):
        horizontal(image[y], pre_y[y], pre_x, taps_x, 1, padded, ring[y])
    for y in range(height):
        ahead = y + radius
        if ahead < height:
            horizontal(image[ahead], pre_y[ahead], pre_x, taps_x, 1, padded, ring[ahead % ring.shape[0]])
        vertical(ring, y, height, taps_y, post_y[y], post_x, out[y])
