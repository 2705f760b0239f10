"""Arguments of wrong kinds of public functions: one family of exceptions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from crispmask import (
    Bilateral,
    CRFParams,
    DenseCRF,
    Gaussian,
    Instances,
    Kernel,
    Segmenter,
    Window,
    evaluate,
    load_detector,
    read_image,
    refine,
    show,
)
from crispmask.arguments import as_array, number, whole
from crispmask.coco import CocoDataset
from crispmask.detectors import select
from crispmask.errors import CrispmaskError
from crispmask.image import as_image
from crispmask.refinement.sketch import mask_from_box

RAGGED = [[1], [1, 2]]
ODD = [None, "2", b"x", {}, object(), RAGGED, [1, [2]], [None], np.array("x"), 1j, math.inf, math.nan, {1}]
MASK = np.ones((4, 5), bool)
IMAGE = np.zeros((4, 5, 3), np.uint8)
UNARY = np.stack([MASK, ~MASK]).astype(np.float32)
DATASET = CocoDataset(Path("truth.json"), {}, {1: "person"}, {}, {})


class Finder:
    name, checksum, categories = "finder", "0", {7: "person"}

    def __call__(self, image):
        return Instances.empty(image.shape[:2])


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "call",
    [
        lambda v: Window(v, 0, 0),
        lambda v: Window(MASK, v, 0),
        lambda v: Window(MASK, 0, v),
        Instances.from_masks,
        lambda v: Instances.empty((v, 5)),
        lambda v: Instances.empty(v),
        lambda v: Instances.concatenate(v),
        lambda v: Instances.concatenate([v]),
        lambda v: Instances.from_masks(MASK).above(v),
        lambda v: Instances.from_masks(MASK).scale(v),
        lambda v: Instances.from_masks(MASK).mask(v),
        lambda v: Instances.from_masks(MASK).probability(v),
        lambda v: Window(MASK, 0, 0).over(v),
        lambda v: Window(MASK, 0, 0).over((0, 0, v, 4)),
        lambda v: Instances.from_masks(MASK).with_windows(v),
        lambda v: Instances.from_masks(MASK, boxes=v if v is not None else "x"),
        lambda v: Instances.from_masks(MASK, scores=v if v is not None else "x"),
        lambda v: Instances.from_masks(MASK, category_ids=v if v is not None else "x"),
        lambda v: refine(v, MASK, CRFParams()),
        lambda v: refine(IMAGE, MASK, CRFParams(), threads=v if v is not None else "x"),
        lambda v: refine(IMAGE, boxes=v if v is not None else "x"),
        lambda v: mask_from_box(IMAGE, v),
        lambda v: CRFParams.from_dict({"theta_alpha": v}),
        lambda v: CRFParams.from_dict(v if v != {} else "x"),
        as_image,
        read_image,
        lambda v: load_detector(v if v is not None else 7),
        lambda v: select(Finder(), score=v if v is not None else "x"),
        lambda v: select(Finder(), tiles=v if v is not None else "x"),
        lambda v: select(Finder(), classes=v if v is not None else "x"),
        lambda v: select(v),
        lambda v: load_detector(threads=v),
        lambda v: load_detector(half=v),
        lambda v: load_detector(device=v if v is not None else 7),
        lambda v: Segmenter(v if v != "2" else 7),
        lambda v: Segmenter(Finder(), params=v if v is not None else 7),
        lambda v: show(v, MASK),
        lambda v: show(IMAGE, v),
        lambda v: show(IMAGE, MASK, v if v is not None else "x"),
        lambda v: evaluate(v, []),
        lambda v: evaluate(DATASET, v),
        lambda v: evaluate(DATASET, [], categories=v if v not in (None, {}) else "x"),
        lambda v: evaluate(DATASET, [], bootstrap=v),
        lambda v: evaluate(DATASET, [], seed=v),
        lambda v: DenseCRF(v, []),
        lambda v: DenseCRF(UNARY, v),
        lambda v: DenseCRF(UNARY, [v]),
        lambda v: DenseCRF(UNARY, [], v if v is not None else "x"),
        lambda v: DenseCRF(UNARY, []).run(v),
        lambda v: DenseCRF(UNARY, []).run(threads=v),
        lambda v: DenseCRF(UNARY, []).energy(v),
        lambda v: DenseCRF.from_labels(v, 2, []),
        lambda v: DenseCRF.from_labels(MASK, v, []),
        lambda v: DenseCRF.from_labels(MASK, 2, [], confidence=v),
        lambda v: DenseCRF.from_probabilities(v, []),
        lambda v: Gaussian(v, 1.0),
        lambda v: Gaussian(1.0, v),
        lambda v: Bilateral(v, 1, 1, 1),
        lambda v: Bilateral(IMAGE, v, 1, 1),
        lambda v: Bilateral(IMAGE, 1, v, 1),
        lambda v: Kernel(v, 1),
        lambda v: Kernel(UNARY, 1, normalization=v),
    ],
)
def test_wrong_kinds(call, value):
    with pytest.raises(CrispmaskError):
        call(value)


def test_numbers():
    assert (whole(3.0, "n", 0), whole(np.int8(3), "n", 0), number(np.float32(0.5), "x")) == (3, 3, 0.5)
    for value in (2**63, -1, 1.5, True, "1", np.zeros(2), math.nan, math.inf):
        with pytest.raises(CrispmaskError, match=r"n must be (a whole|a finite|at least 0|at most 9)"):
            whole(value, "n", 0)
    assert as_array([1.0, 2.0], "a", np.int64).tolist() == [1, 2]
    for value in ([1.5], [math.nan], [1e30], [2**63], [2**70]):
        with pytest.raises(CrispmaskError, match="a must be"):
            as_array(value, "a", np.int64)
