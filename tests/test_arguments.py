"""Arguments of wrong kinds of public functions: one family of exceptions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from crispmask import CRFParams, Instances, Window, refine
from crispmask.arguments import as_array, number, whole
from crispmask.errors import CrispmaskError
from crispmask.image import as_image
from crispmask.refinement.sketch import mask_from_box

RAGGED = [[1], [1, 2]]
ODD = [None, "2", b"x", {}, object(), RAGGED, [1, [2]], [None], np.array("x"), 1j, math.inf, math.nan, {1}]
MASK = np.ones((4, 5), bool)
IMAGE = np.zeros((4, 5, 3), np.uint8)


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
    ],
)
def test_wrong_kinds(call, value):
    with pytest.raises(CrispmaskError):
        call(value)


def test_numbers():
    assert (whole(3.0, "n", 0), whole(np.int8(3), "n", 0), number(np.float32(0.5), "x")) == (3, 3, 0.5)
    for value in (2**63, -1, 1.5, True, "1", np.zeros(2), math.nan, math.inf):
        with pytest.raises(CrispmaskError, match="n must be a whole number of at least 0"):
            whole(value, "n", 0)
    assert as_array([1.0, 2.0], "a", np.int64).tolist() == [1, 2]
    for value in ([1.5], [math.nan], [1e30], [2**63], [2**70]):
        with pytest.raises(CrispmaskError, match="a must be"):
            as_array(value, "a", np.int64)
