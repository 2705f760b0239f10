"""The loops over the bits of Label Studio's run lengths. Source: ``rle-pack`` of https://github.com/thi-ng/umbrella."""

from __future__ import annotations

import numpy as np

from crispmask.runtime import jit

OK, CUT, OTHER = 0, 1, 2
"""What `decode` returns: all is well, or data that are cut short, or values that are not bytes."""

_LONG = 16  # bits of the longest runs that are written; the others have 3, 4 and 8


@jit
def _read(data, place, count):
    """The number in `count` bits from bit `place` on, the highest first."""
    value = np.int64(0)
    for k in range(place, place + count):
        value = value << 1 | ((data[k >> 3] >> (7 - (k & 7))) & 1)
    return value


@jit
def decode(data, mask):
    """The opacity of every pixel, as a mask of those that are more than half opaque.

    A head of 53 bits says how many values follow (32 bits), how many bits each has (5), and the four sizes that a run's
    length can have (4 each); all but the first are less one. Then every chunk has a bit that says whether one value is
    repeated, two bits for the size of its length, its length less one, and its one or many values.

    Args:
        data: uint8, the bytes; at least 7.
        mask: bool (n,), filled; there are 4 n values, red, green, blue and opacity of one pixel after the other.
    """
    if _read(data, 32, 5) != 7:
        return OTHER
    bits, place, at, total = 8 * len(data), 53, 0, 4 * len(mask)
    while at < total:
        if place + 3 > bits:
            return CUT
        repeated, kind = _read(data, place, 1) == 1, _read(data, place + 1, 2)
        size = _read(data, 37 + 4 * kind, 4) + 1
        place += 3
        if place + size > bits:
            return CUT
        end = min(at + _read(data, place, size) + 1, total)
        place += size
        if place + (8 if repeated else 8 * (end - at)) > bits:
            return CUT
        value = _read(data, place, 8)
        for k in range(at, end):
            if not repeated:
                value = _read(data, place + 8 * (k - at), 8)
            if k & 3 == 3:
                mask[k >> 2] = value > 127
        place += 8 if repeated else 8 * (end - at)
        at = end
    return OK


@jit
def encode(lengths, opaque, data):
    """Write runs of pixels after the head; returns the number of bytes.

    Args:
        lengths: int64 (n,), pixels of each run.
        opaque: whether the first run is opaque; they alternate.
        data: uint8, filled with zeros but for the head of 53 bits; long enough.
    """
    place = 53
    for length in lengths:
        left = 4 * length
        while left > 0:
            part = min(left, 1 << _LONG)
            # The shortest size that holds it, unless it is what is left of a longer one.
            if 4 * length > 256:
                kind, size = 3, _LONG
            elif part > 16:
                kind, size = 2, 8
            elif part > 8:
                kind, size = 1, 4
            else:
                kind, size = 0, 3
            code = ((np.int64(4 | kind) << size) | (part - 1)) << 8 | (255 if opaque else 0)
            for k in range(size + 10, -1, -1):
                if code >> k & 1:
                    data[place >> 3] |= 128 >> (place & 7)
                place += 1
            left -= part
        opaque = not opaque
    # A byte of zeros where the last one is full, as Label Studio writes it.
    return place // 8 + 1
