"""Transposition of channels (L, N) to points with adjacent labels (N * lanes,), and back; twice as fast as NumPy."""

from __future__ import annotations

import numpy as np

from crispmask.crf._numba import relaxed_jit

# Points at a time: their channels fit into the first-level cache.
_PIECE = 64


@relaxed_jit
def to_rows(channels, rows, lanes, filling):
    """Fill `rows`; the lanes after the last channel get `filling`."""
    count, n = channels.shape
    for start in range(0, n, _PIECE):
        size = min(_PIECE, n - start)
        piece = rows[start * lanes : (start + size) * lanes]
        for c in range(count):
            source = channels[c, start : start + size]
            for i in range(size):
                piece[np.uint64(i) * np.uint64(lanes) + np.uint64(c)] = source[i]
        for i in range(size):
            piece[i * lanes + count : (i + 1) * lanes] = filling


@relaxed_jit
def to_channels(rows, channels, lanes):
    """Fill `channels`, and return it."""
    count, n = channels.shape
    for start in range(0, n, _PIECE):
        size = min(_PIECE, n - start)
        piece = rows[start * lanes : (start + size) * lanes]
        for c in range(count):
            target = channels[c, start : start + size]
            for i in range(size):
                target[i] = piece[np.uint64(i) * np.uint64(lanes) + np.uint64(c)]
    return channels
