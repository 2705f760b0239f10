"""Prompts made from exact masks: coarse masks as detectors and annotators make them, boxes, and scribbles.

A mask is float32 (S, S) in [0, 1], the object's share of each cell of a crop; so is every prompt. All randomness comes
from the generator that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.refinement.crops import Box, Crop
from crispmask.refinement.prompts import UNKNOWN

Mask = NDArray[np.float32]
Random = np.random.Generator

SHARES = {
    "box": 0.18,
    "scribbles": 0.04,
    "exact": 0.08,
    "grid": 0.08,
    "polygon": 0.08,
    "GrabCut": 0.04,
    "mask head": 0.19,
    "prototypes": 0.15,
    "wandering outline": 0.11,
    "blurred": 0.05,
}
"""Of each kind of prompt among those that a network is trained on."""

_SIDE = 256  # cells for which the widths below hold; they grow with the crop


def ellipse(box: Box, size: int) -> Mask:
    """The prompt of a box, x0, y0, x1, y1 in cells: the same that `refine` makes of it."""
    return Crop(0, 0, size, size).ellipse(box)


def bounds(mask: Mask) -> Box:
    """Of the cells above one half; the whole crop where there is none."""
    ys, xs = np.flatnonzero((mask > 0.5).any(1)), np.flatnonzero((mask > 0.5).any(0))
    if not len(ys):
        return 0.0, 0.0, float(mask.shape[1]), float(mask.shape[0])
    return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)


def mask_head(mask: Mask, rng: Random) -> Mask:
    """What the mask head of a two-stage detector makes: a noisy grid over a box that is a little off."""
    box = _jittered(bounds(mask), rng.uniform(0.005, 0.055), rng)
    cells = int(rng.choice([14, 28, 28, 28, 56]))
    low = _shares(_blurred(mask, rng.uniform(0.6, 5.6) * len(mask) / _SIDE), cells, box)
    odds = _log_odds(low, 0.02) * 1.3 + _strength(rng) * _noise(cells, {4: 1.0, 9: 0.7, cells: 0.3}, rng)
    return _pasted(_sigmoid(odds), box, len(mask))


def prototypes(mask: Mask, rng: Random) -> Mask:
    """What a one-stage detector makes of prototypes: a coarse grid over the whole image, cut at the box."""
    size, cells = len(mask), int(rng.integers(12, 72))
    box = _jittered(bounds(mask), rng.uniform(0.005, 0.055), rng)
    low = _resized(_blurred(mask, 1.0), cells)
    odds = _log_odds(low, 0.03) * 1.2 + _strength(rng) * _noise(cells, {max(3, cells // 6): 1.0, cells: 0.5}, rng)
    return _resized(_sigmoid(odds), size) * (ellipse(box, size) > 0)


def wandering(mask: Mask, rng: Random, reach: float = 9.0) -> Mask:
    """An outline that wanders by up to about `reach` cells of 256."""
    sigma = rng.uniform(1.0, 1.0 + reach) * len(mask) / _SIDE
    field = _strength(rng) * _noise(len(mask), {5: 1.0, 10: 0.8, 24: 0.4}, rng)
    return _sigmoid(_log_odds(_blurred(mask, sigma), 0.004) + field + np.float32(rng.normal() * 0.9))


def grid(mask: Mask, cells: int) -> Mask:
    """The object's shares in a grid over its box, pasted back."""
    box = bounds(mask)
    return _pasted(_shares(mask, cells, box), box, len(mask))


def polygon(mask: Mask, rng: Random, least: float = 0.01, most: float = 0.055) -> Mask:
    """Outlines of few corners, each off by up to 1 to 5.5 % of the object's size, or other shares of it."""
    tolerance = rng.uniform(least, most) * _scale(mask)
    outlines, _ = cv2.findContours((mask > 0.5).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    corners = [cv2.approxPolyDP(outline, tolerance, closed=True) for outline in outlines]
    drawn = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(drawn, [c for c in corners if len(c) >= 3], 1)
    return drawn.astype(np.float32)


def grabcut(mask: Mask, rgb: NDArray[np.uint8], rng: Random) -> Mask:
    """A polygon, cut anew by GrabCut (Rother et al., 2004) in a band along its edge."""
    drawn = polygon(mask, rng).astype(np.uint8)
    width = 2 * max(1, round(rng.uniform(0.4, 1.4) * 0.035 * _scale(mask))) + 1
    if drawn.all() or not drawn.any():  # no colours of one side to learn
        return drawn.astype(np.float32)
    element = np.ones((width, width), np.uint8)
    labels = np.where(drawn > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode(drawn, element) > 0], labels[cv2.dilate(drawn, element) == 0] = cv2.GC_FGD, cv2.GC_BGD
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    cv2.grabCut(bgr, labels, None, *models, 1, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    return ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.float32)


def drawn(mask: Mask, rng: Random) -> Mask:
    """What somebody draws around an object in a few seconds: an ellipse, a rectangle, very few corners, or a hull."""
    shape = rng.integers(4)
    if shape < 2:
        in_box = ellipse(_jittered(bounds(mask), 0.04, rng), len(mask))
        return (in_box > (0.5 if shape else 0)).astype(np.float32)
    if shape == 2:
        return polygon(mask, rng, 0.055, 0.13)
    inside = (mask > 0.5).astype(np.uint8)
    points = cv2.findNonZero(inside)
    if points is not None:
        cv2.fillConvexPoly(inside, cv2.convexHull(points), 1)
    return inside.astype(np.float32)


def bite(prompt: Mask, mask: Mask, others: Mask, rng: Random) -> Mask:
    """Now and then a part is missing, or one of the surroundings or of a neighbour is added."""
    chance = rng.random()
    if chance > 0.30:
        return prompt
    blob = _noise(len(mask), {4: 1.0, 7: 0.6}, rng) > (1.3 if chance < 0.22 else 0.3)
    if chance < 0.11:
        return np.where(blob, prompt * np.float32(0.1), prompt)
    near = (_blurred(mask, 12.0 * len(mask) / _SIDE) > 0.02) if chance < 0.22 else others > 0.5
    return np.where(blob & near, np.maximum(prompt, np.float32(0.85)), prompt)


def scribbles(mask: Mask, rng: Random) -> Mask:
    """Discs on the object (1) and beside it (0) where nothing else is known; half of them inside a box."""
    size = len(mask)
    prompt = np.full(mask.shape, UNKNOWN, np.float32)
    if rng.random() < 0.5:
        prompt = ellipse(_jittered(bounds(mask), 0.02, rng), size)
    for value, where in ((0.0, mask < 0.1), (1.0, mask > 0.9)):
        inner = cv2.erode(where.astype(np.uint8), np.ones((5, 5), np.uint8))
        ys, xs = np.nonzero(inner if inner.any() else where)
        count = int(rng.integers(1, 5)) if value else int(rng.integers(0, 5))
        for k in rng.integers(0, len(ys), count) if len(ys) else ():
            cv2.circle(prompt, (int(xs[k]), int(ys[k])), int(rng.integers(2, 7)), value, -1)
    return prompt


def binarised(prompt: Mask, side: int) -> Mask:
    """A prompt as it comes from a binary mask of the image's pixels, of which the crop has `side`."""
    size = len(prompt)
    if side >= size:
        return (prompt > 0.5).astype(np.float32)
    return _resized((_resized(prompt, side) > 0.5).astype(np.float32), size)


def draw_prompt(mask: Mask, others: Mask, rgb: NDArray[np.uint8], side: int, rng: Random) -> Mask:
    """A random prompt of an object.

    Args:
        mask: its exact mask.
        others: the masks of its neighbours.
        rgb: uint8 (S, S, 3), the crop.
        side: of the crop, pixels of the image.
        rng: what decides.

    Returns:
        float32 (S, S) in [0, 1].
    """
    kind, size = _kind(rng), len(mask)
    if kind == "box":
        box = bounds(mask)
        return ellipse(_jittered(box, 0.04 * rng.random(), rng) if rng.random() < 0.6 else box, size)
    if kind == "scribbles":
        return scribbles(mask, rng)
    if kind == "exact":
        return mask
    if kind == "grid":
        prompt = grid(mask, int(rng.choice([14, 14, 28, 28, 56])))
        return prompt if rng.random() < 0.5 else binarised(prompt, side)
    if kind == "polygon":
        return polygon(mask, rng)
    if kind == "GrabCut":
        return grabcut(mask, rgb, rng)
    if kind == "mask head":
        prompt = mask_head(mask, rng)
    elif kind == "prototypes":
        prompt = prototypes(mask, rng)
    elif kind == "wandering outline":
        prompt = wandering(mask, rng)
    else:
        prompt = _blurred(mask, 0.8)
    prompt = bite(prompt, mask, others, rng)
    return binarised(prompt, side) if rng.random() < 0.6 else prompt


def draw_patch_prompt(mask: Mask, rng: Random) -> Mask:
    """A random prompt for a part of a large object: an earlier answer at a lower resolution, a little off."""
    size = len(mask)
    prompt = wandering(mask, rng, reach=4.0) if rng.random() < 0.8 else mask
    low = _resized(prompt, max(16, round(size / rng.uniform(1.0, 4.0))))
    if rng.random() < 0.4:
        low = (low > 0.5).astype(np.float32)
    return _resized(low, size)


Maker = Callable[[Mask, Mask, NDArray[np.uint8], Random], Mask]

KINDS: dict[str, tuple[Maker, bool]] = {
    "mask head": (lambda mask, others, rgb, rng: bite(mask_head(mask, rng), mask, others, rng), True),
    "prototypes": (lambda mask, others, rgb, rng: bite(prototypes(mask, rng), mask, others, rng), True),
    "wandering outline": (lambda mask, others, rgb, rng: wandering(mask, rng), True),
    "polygon": (lambda mask, others, rgb, rng: polygon(mask, rng), False),
    "drawn roughly": (lambda mask, others, rgb, rng: drawn(mask, rng), False),
    "GrabCut": (lambda mask, others, rgb, rng: grabcut(mask, rgb, rng), False),
    "14 x 14 grid": (lambda mask, others, rgb, rng: grid(mask, 14), True),
    "28 x 28 grid": (lambda mask, others, rgb, rng: grid(mask, 28), True),
}
"""Kinds of coarse masks on which a network is measured, and whether they may have probabilities."""


def _kind(rng: Random) -> str:
    """A kind of prompt, drawn by the shares."""
    drawn = rng.random()
    return next((name for name, end in zip(SHARES, accumulate(SHARES.values()), strict=True) if drawn < end), "blurred")


def _jittered(box: Box, share: float, rng: Random) -> Box:
    """Every side moved by a normal error of `share` of the box's width or height."""
    x0, y0, x1, y1 = box
    w, h = (x1 - x0) * share, (y1 - y0) * share
    e = rng.normal(size=4)
    left, top = float(x0 + e[0] * w), float(y0 + e[1] * h)
    return left, top, max(float(x1 + e[2] * w), left + 2), max(float(y1 + e[3] * h), top + 2)


def _noise(size: int, shares: dict[int, float], rng: Random) -> Mask:
    """Sum of smooth normal noise of so many cells over the crop, each with its amplitude."""
    total = np.zeros((size, size), np.float32)
    for cells, share in shares.items():
        field = rng.standard_normal((cells, cells), np.float32)
        total += np.float32(share) * _float32(cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC))
    return total


def _strength(rng: Random) -> np.float32:
    """Amplitude of the noise that is added to log-odds: often little, at times much."""
    return np.float32(2.2 * rng.random() ** 1.5)


def _blurred(mask: Mask, sigma: float) -> Mask:
    return _float32(cv2.GaussianBlur(mask, (0, 0), max(sigma, 0.1)))


def _resized(mask: Mask, size: int) -> Mask:
    """At size x size: an area's mean where it shrinks, bilinearly where it grows."""
    way = cv2.INTER_AREA if size < len(mask) else cv2.INTER_LINEAR
    return _float32(cv2.resize(mask, (size, size), interpolation=way))


def _float32(values: NDArray[Any]) -> Mask:
    return np.asarray(values, np.float32)


def _log_odds(p: Mask, least: float) -> Mask:
    p = np.clip(p, np.float32(least), np.float32(1 - least))
    return _float32(np.log(p / (1 - p)))


def _sigmoid(x: Mask) -> Mask:
    return _float32(1 / (1 + np.exp(-x)))


def _scale(mask: Mask) -> float:
    """Square root of the area of the mask's box, cells."""
    x0, y0, x1, y1 = bounds(mask)
    return float(np.sqrt((x1 - x0) * (y1 - y0)))


def _shares(mask: Mask, cells: int, box: Box) -> Mask:
    """Shares of the object in cells over a box."""
    size = len(mask)
    x0, y0, x1, y1 = (float(np.clip(v, 0, size)) for v in box)
    if x1 - x0 < 1 or y1 - y0 < 1:
        x0, y0, x1, y1 = 0.0, 0.0, float(size), float(size)
    return np.asarray(Image.fromarray(mask).resize((cells, cells), Image.Resampling.BOX, box=(x0, y0, x1, y1)))


def _pasted(cells: Mask, box: Box, size: int) -> Mask:
    """Cells over a box as a crop, bilinearly; 0 outside the box."""
    x0, y0, x1, y1 = box
    step = np.array([(x1 - x0) / len(cells), (y1 - y0) / len(cells)])
    start = np.array([x0, y0]) + 0.5 * step - 0.5  # OpenCV's pixels have whole numbers for centres
    forward = np.array([[step[0], 0, start[0]], [0, step[1], start[1]]])
    made = cv2.warpAffine(cells, forward, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _float32(made) * (ellipse(box, size) > 0)
