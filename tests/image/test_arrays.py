from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crispmask.errors import ShapeError, ValueRangeError
from crispmask.image import as_image


def test_as_image():
    photo = np.arange(24 * 36 * 3).reshape(24, 36, 3).astype(np.uint8)
    assert as_image(photo) is photo
    assert (as_image(photo[:, :, 0]) == photo[:, :, :1]).all()
    assert as_image(photo[:, :, :1]).shape == photo.shape
    assert (as_image(Image.fromarray(photo)) == photo).all()
    assert as_image(photo[:, ::2]).flags.c_contiguous


@pytest.mark.parametrize(
    ("array", "error", "words"),
    [
        (np.zeros((4, 5, 4), np.uint8), ShapeError, r"image\[:, :, :3\]"),
        (np.zeros((3, 40, 50), np.uint8), ShapeError, "transpose"),
        (np.zeros((4, 5, 2), np.uint8), ShapeError, r"\(H, W, 3\)"),
        (np.zeros(7, np.uint8), ShapeError, r"\(H, W, 3\)"),
        (np.zeros((1, 4, 5, 3), np.uint8), ShapeError, r"\(H, W, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), ShapeError, "no pixels"),
        (np.zeros((4, 5, 3)), ValueRangeError, "uint8"),
        (np.zeros((4, 5, 3), np.uint16), ValueRangeError, "uint8"),
        (np.zeros((4, 5), bool), ValueRangeError, "uint8"),
    ],
)
def test_as_image_refuses(array, error, words):
    with pytest.raises(error, match=words):
        as_image(array)
