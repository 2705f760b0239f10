"""CIELAB, the colour space in which equal distances look about equally different."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crispmask.image import as_image

# sRGB to XYZ (IEC 61966-2-1), each row divided by the D65 white of the 2 degree observer, so that white maps to 1.
_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
TO_XYZ = np.ascontiguousarray((_XYZ / [[0.95047], [1.0], [1.08883]]).astype(np.float32).T)

_CODES = np.arange(256) / 255.0
LINEAR = np.where(_CODES > 0.04045, ((_CODES + 0.055) / 1.055) ** 2.4, _CODES / 12.92).astype(np.float32)


def rgb_to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """sRGB to CIELAB (CIE 1976 L*a*b*, white D65, 2 degree observer).

    Args:
        image: uint8 (H, W, 3), RGB.

    Returns:
        float32 (H, W, 3): L in [0, 100], a and b in about [-110, 110].

    Raises:
        ShapeError: an array that is not (H, W, 3).
        ValueRangeError: an array that is not uint8.
    """
    from crispmask.refinement._colour_kernels import to_lab

    image = as_image(image)
    lab = np.empty(image.shape, np.float32)
    to_lab(image, LINEAR, TO_XYZ, lab)
    return lab
