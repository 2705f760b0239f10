"""Masks of annotated objects as others would have made them: coarse grids and polygons of few corners."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from crispmask.coco import segmentation_to_mask
from crispmask.detectors.paste import paste_window
from crispmask.formats.polygons import outlines
from crispmask.instances import Instances, Window

KINDS = ("28x28", "14x14", "polygon")


def coarse(kind: str, truth: Instances, rng: np.random.Generator) -> Instances:
    """The only object of `truth` as a mask of one of `KINDS`: its box stays; empty where nothing was left.

    * ``28x28``, ``14x14``: its share in each cell of a grid over its box, pasted back, as a mask head would.
    * ``polygon``: its outline with few corners, off by up to 2 to 5 % of the object's size; holes are filled.
    """
    if kind in ("28x28", "14x14"):
        return _grid(truth, int(kind[:2]))
    return _polygon(truth, float(rng.uniform(0.02, 0.05)) * _side(truth))


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
    window = truth.windows[0]
    # Relative to the window: its first pixel's corner is (0, 0).
    parts = outlines(Window(window.probabilities, 0, 0), tolerance)
    drawn = segmentation_to_mask([part[0].ravel().tolist() for part in parts], window.height, window.width)
    return truth.with_windows([Window(drawn.astype(np.float32), window.y, window.x)])
