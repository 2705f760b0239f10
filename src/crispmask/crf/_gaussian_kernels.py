"""Compiled loops of the separable Gaussian. A row holds `stride` interleaved channels per pixel."""

from __future__ import annotations

import numpy as np

from crispmask.crf._numba import relaxed_jit


@relaxed_jit
def horizontal(row, factor, pre, taps, stride, padded, out):  # type: ignore[no-untyped-def]
    """Filter one row (W * stride,) of pixels; `padded` has room for its radius on either side and zeros there."""
    radius = taps.shape[0] - 1
    margin = radius * stride
    width = pre.shape[0]
    if stride == 1:
        for x in range(width):
            padded[margin + x] = row[x] * (factor * pre[x])
    else:
        for x in range(width):
            scale = factor * pre[x]
            for k in range(stride):
                padded[margin + x * stride + k] = row[x * stride + k] * scale
    size = width * stride
    center = padded[margin : margin + size]
    for i in range(size):
        out[i] = taps[0] * center[i]
    for t in range(1, radius + 1):
        weight = taps[t]
        left = padded[margin - t * stride : margin - t * stride + size]
        right = padded[margin + t * stride : margin + t * stride + size]
        for i in range(size):
            out[i] += weight * (left[i] + right[i])


@relaxed_jit
def vertical(ring, y, height, taps, factor, post, stride, out):  # type: ignore[no-untyped-def]
    """Row y of the result from the horizontally filtered rows; row j is ring[j % len(ring)]."""
    radius = taps.shape[0] - 1
    slots = ring.shape[0]
    size = post.shape[0] * stride
    center = ring[y % slots]
    for i in range(size):
        out[i] = taps[0] * center[i]
    for t in range(1, radius + 1):
        weight = taps[t]
        if y - t >= 0 and y + t < height:
            above, below = ring[(y - t) % slots], ring[(y + t) % slots]
            for i in range(size):
                out[i] += weight * (above[i] + below[i])
        elif y - t >= 0 or y + t < height:
            only = ring[(y - t if y - t >= 0 else y + t) % slots]
            for i in range(size):
                out[i] += weight * only[i]
    if stride == 1:
        for x in range(post.shape[0]):
            out[x] *= factor * post[x]
    else:
        for x in range(post.shape[0]):
            scale = factor * post[x]
            for k in range(stride):
                out[x * stride + k] *= scale


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
        vertical(ring, y, height, taps_y, post_y[y], post_x, 1, out[y])
