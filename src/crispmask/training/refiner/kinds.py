"""Masks of annotated objects as others would have made them: coarse grids, quick polygons, colour models.

OpenCV, which supervision brings along, draws the polygons and cuts by colour.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.detectors.paste import paste_window
from crispmask.instances import Instances, Window

KINDS = ("28x28", "14x14", "polygon", "colours")


def coarse(kind: str, image: NDArray[np.uint8], truth: Instances, rng: np.random.Generator) -> Instances:
    """The only object of `truth` as a mask of one of `KINDS`: its box stays; empty where nothing was left.

    * ``28x28``, ``14x14``: its share in each cell of a grid over its box, pasted back, as a mask head would.
    * ``polygon``: its outline with few corners, each off by up to 2 to 5 % of the object's size.
    * ``colours``: a polygon, cut anew by GrabCut (Rother et al., 2004) in a band along its edge.
    """
    if kind in ("28x28", "14x14"):
        return _grid(truth, int(kind[:2]))
    tolerance = float(rng.uniform(0.02, 0.05)) * _side(truth)
    drawn = _polygon(truth, tolerance)
    if kind == "polygon" or not drawn.windows[0].mask.any():
        return drawn
    return _colours(image, drawn, tolerance * float(rng.uniform(0.4, 1.2)))


def _side(truth: Instances) -> float:
    x0, y0, x1, y1 = (float(v) for v in truth.boxes[0])
    return math.sqrt((x1 - x0) * (y1 - y0))


def _grid(truth: Instances, cells: int) -> Instances:
    box = truth.boxes[0]
    x0, y0, x1, y1 = (float(v) for v in box)
    full = Image.fromarray(truth.probability(0))
    shares = full.resize((cells, cells), Image.Resampling.BOX, box=(x0, y0, x1, y1))
    return truth.with_windows([paste_window(np.asarray(shares), box, truth.image_size)])


def _polygon(truth: Instances, tolerance: float) -> Instances:
    import cv2

    window = truth.windows[0]
    outlines, _ = cv2.findContours(window.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    simple = [cv2.approxPolyDP(outline, tolerance, closed=True) for outline in outlines]
    drawn = np.zeros(window.mask.shape, np.uint8)
    cv2.fillPoly(drawn, [corners for corners in simple if len(corners) >= 3], 1)
    return truth.with_windows([Window(drawn.astype(np.float32), window.y, window.x)])


def _colours(image: NDArray[np.uint8], drawn: Instances, band: float) -> Instances:
    import cv2

    height, width = drawn.image_size
    x0, y0, x1, y1 = (float(v) for v in drawn.boxes[0])
    reach = 0.15 * max(x1 - x0, y1 - y0) + 8
    rows = slice(max(0, int(y0 - reach)), min(height, math.ceil(y1 + reach)))
    columns = slice(max(0, int(x0 - reach)), min(width, math.ceil(x1 + reach)))
    mask = drawn.mask(0)[rows, columns].astype(np.uint8)
    size = 2 * max(1, round(band)) + 1
    element = np.ones((size, size), np.uint8)
    labels = np.where(mask > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode(mask, element) > 0], labels[cv2.dilate(mask, element) == 0] = cv2.GC_FGD, cv2.GC_BGD
    if (mask > 0).all() or not mask.any():  # no colours of one side to learn
        return drawn
    cv2.setRNGSeed(0)
    crop = np.ascontiguousarray(image[rows, columns, ::-1])
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(crop, labels, None, *models, 1, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    found = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.float32)
    return replace(drawn, windows=(Window(found, rows.start, columns.start),))
