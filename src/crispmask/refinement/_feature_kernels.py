"""Counts and sums over the cells of a crop, in one pass."""

from __future__ import annotations

import numpy as np

from crispmask.crf._numba import exp, relaxed_jit

# Beyond these log-odds, probabilities differ from 0 and 1 by less than float32 tells.
_FAR = np.float32(60)


@relaxed_jit
def measure(prompt, odds, counts, sums, edge_odds):
    """Fill counts and sums of a prompt and an answer, both float32 (S, S); see `features.Cells`.

    counts: int64 (9,). sums: float64 (3,). edge_odds: float32 (S * S,), the first counts[0] are filled.
    """
    height, width = prompt.shape
    p = np.empty(width, np.float32)
    half, low, high = np.float32(0.5), np.float32(0.1), np.float32(0.9)
    edge = own_edge = sure = before = after = both = undecided = doubt = 0
    sums[:] = 0
    for y in range(height):
        mask, own = prompt[y], odds[y]
        next_mask, next_own = prompt[min(y + 1, height - 1)], odds[min(y + 1, height - 1)]
        for x in range(width):
            p[x] = np.float32(1) / (np.float32(1) + exp(max(-_FAR, min(_FAR, -own[x]))))
        for x in range(width):  # without branches it vectorises
            inside, chosen = mask[x] > half, own[x] > 0
            before += inside
            after += chosen
            both += inside & chosen
            undecided += (mask[x] > low) & (mask[x] < high)
            doubt += (p[x] > low) & (p[x] < high)
        mass = kept_mass = own_mass = np.float32(0)
        for x in range(width):
            mass += p[x]
            kept_mass += p[x] if mask[x] > half else np.float32(0)
            own_mass += p[x] if own[x] > 0 else np.float32(0)
        sums[0] += mass
        sums[1] += kept_mass
        sums[2] += own_mass
        for x in range(width):
            right = min(x + 1, width - 1)
            inside, chosen = mask[x] > half, own[x] > 0
            if (inside != (mask[right] > half)) | (inside != (next_mask[x] > half)):
                edge_odds[edge] = abs(own[x])
                edge += 1
            own_edge += (chosen != (own[right] > 0)) | (chosen != (next_own[x] > 0))
            sure += (inside != chosen) & (abs(own[x]) > np.float32(2))
    differing, union = before + after - 2 * both, before + after - both
    for k, count in enumerate((edge, own_edge, differing, sure, union, before, after, undecided, doubt)):
        counts[k] = count
