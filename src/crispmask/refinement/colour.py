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

_STRIP = 1 << 15  # pixels that are converted at a time: what is in between stays in the processor's cache


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
    image = as_image(image)
    lab = np.empty(image.shape, np.float32)
    rows = max(1, _STRIP // image.shape[1])
    for y in range(0, len(image), rows):
        part = lab[y : y + rows]
        xyz = LINEAR[image[y : y + rows]] @ TO_XYZ
        f = np.where(xyz > np.float32(0.008856), np.cbrt(xyz), np.float32(7.787) * xyz + np.float32(16 / 116))
        part[..., 0] = 116 * f[..., 1] - 16
        part[..., 1] = 500 * (f[..., 0] - f[..., 1])
        part[..., 2] = 200 * (f[..., 1] - f[..., 2])
    return lab
