"""The loops of COCO's evaluation: run lengths, overlaps, boundaries, matches, precision.

Masks are stretches of pixels: int64 [start, end) of the image's pixels counted down the columns, as in COCO's run
lengths, ascending and without overlap. Mask i has the stretches first[i] ... first[i] + count[i] - 1.

Arithmetic and order are pycocotools', so that results are equal to the last bit; see `cocoeval.py` and `maskApi.c`
there.
"""

from __future__ import annotations

import numpy as np

from crispmask.runtime import jit

EPS = float(np.spacing(1))

FALSE, TRUE, IGNORED = 0, 1, 2


@jit
def decode(text, offsets, pixels, starts, ends, first, count):
    """Stretches of compressed run lengths, and the number of the first mask that is damaged, or -1.

    Args:
        text: uint8, the counts of all masks one after the other; offsets: int64 (N + 1,) where each begins.
        pixels: int64 (N,) H * W.
        starts, ends, first, count: filled; n characters make n // 2 stretches at most.
    """
    place = 0
    for i in range(len(pixels)):
        first[i] = place
        n, total, before, last = 0, np.int64(0), np.int64(0), np.int64(0)
        k = offsets[i]
        while k < offsets[i + 1]:
            value, shift, more = np.int64(0), 0, True
            while more:
                if k == offsets[i + 1] or shift > 30:
                    return i
                code = np.int64(text[k]) - 48
                if code < 0 or code > 63:
                    return i
                value |= (code & 31) << shift
                more = (code & 32) != 0
                shift += 5
                if not more and code & 16:
                    value -= np.int64(1) << shift
                k += 1
            # From the fourth run on, a number is the difference to the run two before.
            run = value + before if n > 2 else value
            if run < 0 or total + run > pixels[i]:
                return i
            if n % 2 and run:
                if place > first[i] and ends[place - 1] == total:  # nothing lay between them
                    place -= 1
                else:
                    starts[place] = total
                ends[place] = total + run
                place += 1
            total += run
            before, last = last, run
            n += 1
        if total != pixels[i]:
            return i
        count[i] = place - first[i]
    return -1


@jit
def areas(starts, ends, first, count, out):
    """Pixels of every mask: float64 (N,)."""
    for i in range(len(first)):
        total = 0
        for k in range(first[i], first[i] + count[i]):
            total += ends[k] - starts[k]
        out[i] = total


@jit
def boundaries(starts, ends, first, count, heights, widths, out_first, out_count):
    """Stretches of the masks' boundaries: the pixels within d of the outside, in the chessboard metric.

    d is 2 % of the image's diagonal; what lies beyond the image is outside (Cheng et al., CVPR 2021).

    Args:
        out_first, out_count: filled as first and count of the boundaries.

    Returns:
        starts, ends of the boundaries.
    """
    capacity, place = 1024, 0
    out_starts, out_ends = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    for i in range(len(first)):
        out_first[i], out_count[i] = place, 0
        if count[i] == 0:
            continue
        h, w = heights[i], widths[i]
        d = max(1, int(np.rint(0.02 * np.sqrt(float(h * h + w * w)))))  # halves to even, as the paper's code
        begin, end = first[i], first[i] + count[i]
        x0, x1 = starts[begin] // h, (ends[end - 1] - 1) // h
        # Of each row: the last column whose pixels up to d above and below are all inside, and the first of its run;
        # and the last column in which the pixel is no boundary.
        seen, since, deep = np.full(h, -2), np.zeros(h, np.int64), np.full(h, -1)
        ahead, behind = begin, begin  # stretches that enter at column x, and leave at x - d
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
        out_count[i] = place - out_first[i]
    return out_starts[:place].copy(), out_ends[:place].copy()


@jit
def common(starts, ends, i, n, other_starts, other_ends, j, m):
    """Pixels that n stretches from i on and m stretches from j on share."""
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
    """IoU of pairs of masks; with a crowd, the share of the detection that lies in it.

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
def match(groups, ious, area, truth_area, crowd, thresholds, ranges, place, verdicts):
    """Which detections are true, false, or do not count, for every size class and IoU threshold.

    Args:
        groups: int64 (G, 5): for an image and category, the first detection and their number (the surest first), the
            first object and their number, and the first of their IoUs, a row for each detection.
        ious: float64, of all groups; area: float64 of detections; truth_area, crowd: of objects.
        thresholds: float64 (T,); ranges: float64 (A, 2), both ends included.
        place: int64, where each detection's verdicts go.
        verdicts: uint8 (A, T, detections), filled.
    """
    most = 0
    for g in range(len(groups)):
        most = max(most, groups[g, 3])
    order, ignored = np.empty(most, np.int64), np.empty(most, np.bool_)
    taken = np.empty(most, np.bool_)
    for g in range(len(groups)):
        d0, nd, t0, nt, p0 = groups[g]
        for a in range(len(ranges)):
            low, high = ranges[a]
            # Objects that count come first, each kind in the order of the file.
            n = 0
            for skipped in (False, True):
                for j in range(nt):
                    size = truth_area[t0 + j]
                    if (crowd[t0 + j] != 0 or size < low or size > high) == skipped:
                        order[n], ignored[n] = j, skipped
                        n += 1
            for t in range(len(thresholds)):
                taken[:nt] = False
                for i in range(nd):
                    best, chosen = min(thresholds[t], 1 - 1e-10), -1
                    for k in range(nt):
                        j = order[k]
                        if taken[k] and not crowd[t0 + j]:
                            continue
                        if chosen > -1 and not ignored[chosen] and ignored[k]:
                            break
                        if ious[p0 + i * nt + j] < best:
                            continue
                        best, chosen = ious[p0 + i * nt + j], k
                    if chosen > -1:
                        taken[chosen] = True
                        verdict = IGNORED if ignored[chosen] else TRUE
                    else:
                        outside = area[d0 + i] < low or area[d0 + i] > high
                        verdict = IGNORED if outside else FALSE
                    verdicts[a, t, place[d0 + i]] = verdict


@jit
def precision(bounds, verdicts, image, tie, wanted, wanted_image, weights, recalls, out):
    """Average precision when every image counts `weights` times, as if it were that many images.

    Args:
        bounds: int64 (K + 1,), where each category's detections begin, the surest first.
        verdicts: uint8 (A, T, detections) of `match`; image: int64 (detections,).
        tie: int64 (detections,), for the first of several detections of an image with one score, the end of them;
            copies of the image come one after the other, so the whole run repeats.
        wanted: int64 (objects, A), the category of each object that counts, else -1; wanted_image: int64 (objects,).
        weights: int64 (B, images).
        recalls: float64 (R,), where precision is read.
        out: float64 (B, K, A, T), filled; NaN where no object counts.
    """
    categories, sizes, thresholds = len(bounds) - 1, verdicts.shape[0], verdicts.shape[1]
    objects = np.empty((categories, sizes), np.int64)
    trues, height = np.empty(verdicts.shape[2], np.int64), np.empty(verdicts.shape[2], np.float64)
    for b in range(len(weights)):
        weight = weights[b]
        most = 0
        for j in range(len(image)):
            most += weight[image[j]]
        if most > len(trues):
            trues, height = np.empty(most, np.int64), np.empty(most, np.float64)
        objects[:] = 0
        for j in range(len(wanted)):
            for a in range(sizes):
                if wanted[j, a] >= 0:
                    objects[wanted[j, a], a] += weight[wanted_image[j]]
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
                                verdict = verdicts[a, t, i]
                                if verdict == FALSE:
                                    false += step
                                elif verdict == TRUE:
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


@jit
def pair(groups, ious, crowd, least, partner):
    """The object that each detection takes: the one with the highest IoU that no surer detection took, crowds apart.

    Args:
        groups, ious, crowd: as in `match`; least: IoU that a pair needs.
        partner: int64 (detections,), filled with rows of objects, -1 for none.
    """
    taken = np.zeros(len(crowd), np.bool_)
    for g in range(len(groups)):
        d0, nd, t0, nt, p0 = groups[g]
        for i in range(nd):
            best, chosen = 0.0, -1
            for j in range(nt):
                iou = ious[p0 + i * nt + j]
                if iou > best and iou >= least and not taken[t0 + j] and not crowd[t0 + j]:
                    best, chosen = iou, t0 + j
            partner[d0 + i] = chosen
            if chosen >= 0:
                taken[chosen] = True
