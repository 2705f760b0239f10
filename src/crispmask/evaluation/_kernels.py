"""The loops of COCO's evaluation: overlaps, boundaries, matches, average precision.

Masks are runs of pixels, in flat arrays: see `crispmask.coco.runs.MaskRuns`.

Arithmetic and order are those of pycocotools, so that results are equal to the last bit; see ``cocoeval.py`` and
``maskApi.c`` there.
"""

from __future__ import annotations

import numpy as np

from crispmask.runtime import jit

EPS = float(np.spacing(1))

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2


@jit
def boundaries(starts, ends, first, count, heights, width):
    """The masks' boundaries: the pixels within a distance d of the outside, in the chessboard metric.

    What lies beyond the image is outside.

    Args:
        heights: int64 (N,) of the images; width: int64 (N,), d of each mask, pixels.

    Returns:
        starts, ends of the boundaries' runs, and int64 (N,) how many each has.
    """
    capacity, place = 1024, 0
    out_count = np.zeros(len(first), np.int64)
    out_starts, out_ends = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    for i in range(len(first)):
        if count[i] == 0:
            continue
        h, d, before = heights[i], width[i], place
        begin, end = first[i], first[i] + count[i]
        x0, x1 = starts[begin] // h, (ends[end - 1] - 1) // h
        # Of each row: the last column whose pixels up to d above and below are all inside, and the first of its run;
        # and the last column in which the pixel is no boundary.
        seen, since, deep = np.full(h, -2), np.zeros(h, np.int64), np.full(h, -1)
        ahead, behind = begin, begin  # runs that enter at column x, and leave at x - d
        for x in range(x0, x1 + d + 1):
            while ahead < end and starts[ahead] < (x + 1) * h:
                top = max(starts[ahead] - x * h, 0)
                bottom = min(ends[ahead] - x * h, h)
                for y in range(top + d, bottom - d):
                    if seen[y] != x - 1:
                        since[y] = x
                    seen[y] = x
                    if x - since[y] >= 2 * d:
                        deep[y] = x - d
                if ends[ahead] > (x + 1) * h:
                    break
                ahead += 1
            column = x - d
            if column < x0:
                continue
            while behind < end and starts[behind] < (column + 1) * h:
                y = max(starts[behind] - column * h, 0)
                bottom = min(ends[behind] - column * h, h)
                while y < bottom:
                    if deep[y] == column:
                        y += 1
                        continue
                    top = y
                    while y < bottom and deep[y] != column:
                        y += 1
                    if place == capacity:
                        capacity *= 2
                        more_starts, more_ends = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
                        more_starts[:place], more_ends[:place] = out_starts, out_ends
                        out_starts, out_ends = more_starts, more_ends
                    out_starts[place], out_ends[place] = column * h + top, column * h + y
                    place += 1
                if ends[behind] > (column + 1) * h:
                    break
                behind += 1
        out_count[i] = place - before
    return out_starts[:place].copy(), out_ends[:place].copy(), out_count


@jit
def common(starts, ends, i, n, other_starts, other_ends, j, m):
    """Pixels that n runs from run i on and m runs from run j on share."""
    total, last_i, last_j = 0, i + n, j + m
    while i < last_i and j < last_j:
        low, high = max(starts[i], other_starts[j]), min(ends[i], other_ends[j])
        if low < high:
            total += high - low
        if ends[i] < other_ends[j]:
            i += 1
        else:
            j += 1
    return total


@jit
def mask_ious(found, truth, pairs, crowd, out):
    """IoU of pairs of masks; with a crowd, the share of the detection that lies inside it.

    Args:
        found, truth: (starts, ends, first, count, area) of the two sides.
        pairs: int64 (P, 2) rows of found and truth; crowd: uint8 of truth.
        out: float64 (P,), filled.
    """
    starts, ends, first, count, area = found
    other_starts, other_ends, other_first, other_count, other_area = truth
    for p in range(len(pairs)):
        i, j = pairs[p]
        out[p] = 0
        if count[i] == 0 or other_count[j] == 0:
            continue
        shared = common(starts, ends, first[i], count[i], other_starts, other_ends, other_first[j], other_count[j])
        if shared:
            union = area[i] if crowd[j] else area[i] + other_area[j] - shared
            out[p] = shared / union


@jit
def box_ious(found, truth, pairs, crowd, out):
    """As `mask_ious`, of boxes float64 (N, 4) [x, y, width, height]."""
    for p in range(len(pairs)):
        i, j = pairs[p]
        out[p] = 0
        width = min(found[i, 0] + found[i, 2], truth[j, 0] + truth[j, 2]) - max(found[i, 0], truth[j, 0])
        height = min(found[i, 1] + found[i, 3], truth[j, 1] + truth[j, 3]) - max(found[i, 1], truth[j, 1])
        if width > 0 and height > 0:
            shared, own = width * height, found[i, 2] * found[i, 3]
            union = own if crowd[j] else own + truth[j, 2] * truth[j, 3] - shared
            out[p] = shared / union


@jit
def match(groups, ious, counted, crowd, thresholds, partner):
    """The object that each detection matches, for every size class and IoU threshold.

    In the order of descending score, a detection takes the object with the highest IoU, at least the threshold, that no
    detection before it took. Objects that count go before those that do not, and a crowd can be taken many times.

    Args:
        groups: int64 (G, 5): for an image and category, the first detection and their number, in the order of
            descending score; the first object and their number; and the place of the first of their IoUs, which are a
            row for each detection.
        ious: float64, of all groups.
        counted: uint8 (objects, A), 1 where an object counts in a size class; crowd: uint8 (objects,).
        thresholds: float64 (T,).
        partner: int64 (A, T, detections), filled with numbers of objects, -1 for none.
    """
    most = 0
    for g in range(len(groups)):
        most = max(most, groups[g, 3])
    order, taken = np.empty(most, np.int64), np.empty(most, np.bool_)
    for g in range(len(groups)):
        d0, nd, t0, nt, p0 = groups[g]
        for a in range(counted.shape[1]):
            # Objects that count come first, each kind in the order of the file.
            n = 0
            for counts in (1, 0):
                for j in range(nt):
                    if counted[t0 + j, a] == counts:
                        order[n] = j
                        n += 1
            for t in range(len(thresholds)):
                taken[:nt] = False
                for i in range(nd):
                    best, chosen = min(thresholds[t], 1 - 1e-10), -1
                    for k in range(nt):
                        j = order[k]
                        if taken[j] and not crowd[t0 + j]:
                            continue
                        if chosen >= 0 and counted[t0 + chosen, a] and not counted[t0 + j, a]:
                            break
                        if ious[p0 + i * nt + j] < best:
                            continue
                        best, chosen = ious[p0 + i * nt + j], j
                    if chosen >= 0:
                        taken[chosen] = True
                        partner[a, t, d0 + i] = t0 + chosen
                    else:
                        partner[a, t, d0 + i] = -1


@jit
def average_precision(bounds, outcome, image, tie, object_category, object_image, weights, recalls, out):
    """Average precision when every image counts `weights` times, as if it were that many images.

    Args:
        bounds: int64 (K + 1,), where each category's detections begin, in the order of descending score.
        outcome: uint8 (A, T, detections): false positive, true positive or ignored; image: int64 (detections,).
        tie: int64 (detections,), for the first of several detections of one image and score, the end of them; copies
            of the image come one after the other, so all of them repeat together.
        object_category: int64 (objects, A), the category of each object that counts, else -1.
        object_image: int64 (objects,).
        weights: int64 (B, images).
        recalls: float64 (R,), where precision is read.
        out: float64 (B, K, A, T), filled; NaN where no object counts.
    """
    categories, sizes, thresholds = len(bounds) - 1, outcome.shape[0], outcome.shape[1]
    objects = np.empty((categories, sizes), np.int64)
    trues, height = np.empty(outcome.shape[2], np.int64), np.empty(outcome.shape[2], np.float64)
    for b in range(len(weights)):
        weight = weights[b]
        most = 0
        for j in range(len(image)):
            most += weight[image[j]]
        if most > len(trues):
            trues, height = np.empty(most, np.int64), np.empty(most, np.float64)
        objects[:] = 0
        for j in range(len(object_category)):
            for a in range(sizes):
                if object_category[j, a] >= 0:
                    objects[object_category[j, a], a] += weight[object_image[j]]
        for k in range(categories):
            for a in range(sizes):
                if objects[k, a] == 0:
                    out[b, k, a, :] = np.nan
                    continue
                for t in range(thresholds):
                    n, true, false, j = 0, 0, 0, bounds[k]
                    while j < bounds[k + 1]:
                        copies, end = weight[image[j]], tie[j]
                        if end == j + 1:  # the copies of one detection follow one another
                            repeats, step = min(copies, 1), copies
                        else:
                            repeats, step = copies, 1
                        for _ in range(repeats):
                            for i in range(j, end):
                                if outcome[a, t, i] == FALSE_POSITIVE:
                                    false += step
                                elif outcome[a, t, i] == TRUE_POSITIVE:
                                    true += step
                                    trues[n], height[n] = true, true / (false + true + EPS)
                                    n += 1
                        j = end
                    for i in range(n - 2, -1, -1):
                        height[i] = max(height[i], height[i + 1])
                    total, i = 0.0, 0
                    for r in range(len(recalls)):
                        while i < n and trues[i] / objects[k, a] < recalls[r]:
                            i += 1
                        if i == n:
                            break
                        total += height[i]
                    out[b, k, a, t] = total / len(recalls)
