"""The loops of run lengths, from and to text. Source: ``rleFrString`` and ``rleToString`` in ``maskApi.c``."""

from __future__ import annotations

import numpy as np

from crispmask.runtime import jit

OK, FOREIGN, CUT, LONG = 0, 1, 2, 3
"""What `decode` returns: all is well, or a character that is not part of the encoding, a string that is cut short, or
a run that is longer than any image."""


@jit
def decode(text, offsets, runs, first):
    """The run lengths of compressed RLEs.

    Each character holds 6 bits above '0': five bits of the number, the lowest first, and one bit that says whether
    more follow; the sign is bit 4 of the last character. From the fourth run of a mask on, a number is the difference
    to the run two before.

    Args:
        text: uint8, the counts of N masks one after the other; offsets: int64 (N + 1,), where each begins.
        runs: int64, filled; there are at most as many as characters.
        first: int64 (N + 1,), filled with the place of each mask's first run, and the number of all runs.
    """
    place = 0
    for i in range(len(offsets) - 1):
        first[i] = place
        k = offsets[i]
        while k < offsets[i + 1]:
            value, shift, more = np.int64(0), 0, True
            while more:
                if k == offsets[i + 1]:
                    return CUT
                code = np.int64(text[k]) - 48
                if code < 0 or code > 63:
                    return FOREIGN
                if shift > 30:  # seven characters hold 35 bits, more than any image has pixels
                    return LONG
                value |= (code & 31) << shift
                more = (code & 32) != 0
                shift += 5
                if not more and code & 16:
                    value -= np.int64(1) << shift
                k += 1
            runs[place] = value + runs[place - 2] if place - first[i] > 2 else value
            place += 1
    first[-1] = place
    return OK


@jit
def foreground(runs, first, pixels, starts, ends, count):
    """The foreground runs of N masks as [start, end), or the number of the first mask that is damaged.

    Args:
        runs, first: as `decode` fills them; pixels: int64 (N,), H * W of the images.
        starts, ends: int64, filled; there are at most half as many as runs.
        count: int64 (N,), filled with how many each mask has.

    Returns:
        How many there are in all, and -1 or the number of the first mask with a negative run or another sum than its
        pixels.
    """
    place = 0
    for i in range(len(pixels)):
        before, total = place, 0
        for k in range(first[i], first[i + 1]):
            run = runs[k]
            if run < 0 or total + run > pixels[i]:
                return place, i
            if (k - first[i]) % 2 and run:
                if place > before and ends[place - 1] == total:  # a background run of length 0 separates nothing
                    place -= 1
                else:
                    starts[place] = total
                ends[place] = total + run
                place += 1
            total += run
        if total != pixels[i]:
            return place, i
        count[i] = place - before
    return place, -1


@jit
def encode(runs, text):
    """The compressed RLE of run lengths; the inverse of `decode`. Source: ``rleToString`` in ``maskApi.c``.

    Args:
        runs: int64 (n,), of one mask; text: uint8, filled; a run takes at most seven characters.

    Returns:
        The number of characters.
    """
    place = 0
    for i in range(len(runs)):
        value = runs[i] - runs[i - 2] if i > 2 else runs[i]
        more = True
        while more:
            code = value & 31
            value >>= 5
            more = value != -1 if code & 16 else value != 0
            text[place] = (code | 32 if more else code) + 48
            place += 1
    return place
