"""CIELAB of an image, row by row."""

from __future__ import annotations

import numpy as np

from crispmask.runtime import jit


@jit
def to_lab(image, linear, matrix, lab):
    """Fill float32 `lab` (H, W, 3) for a uint8 image (H, W, 3).

    linear: float32 (256,), the linear value of each code; matrix: float32 (3, 3), those of a pixel times it are XYZ.
    """
    width = image.shape[1]
    rgb, f = np.empty((3, width), np.float32), np.empty((3, width), np.float32)
    root = np.empty(width, np.float32)
    for y in range(image.shape[0]):
        for x in range(width):
            for k in range(3):
                rgb[k, x] = linear[image[y, x, k]]
        for k in range(3):
            for x in range(width):
                f[k, x] = rgb[0, x] * matrix[0, k] + rgb[1, x] * matrix[1, k] + rgb[2, x] * matrix[2, k]
            _cube_root(f[k], root)
            for x in range(width):
                t = f[k, x]
                f[k, x] = root[x] if t > np.float32(0.008856) else np.float32(7.787) * t + np.float32(16 / 116)
        for x in range(width):
            lab[y, x, 0] = np.float32(116) * f[1, x] - np.float32(16)
            lab[y, x, 1] = np.float32(500) * (f[0, x] - f[1, x])
            lab[y, x, 2] = np.float32(200) * (f[1, x] - f[2, x])


@jit
def _cube_root(values, root):
    """Cube roots of positive float32 numbers, to four units in the last place.

    Unlike `np.cbrt` it vectorises: an image of 216 x 218 pixels takes 0.2 ms in place of 2.5.
    """
    bits, guess = values.view(np.int32), root.view(np.int32)
    for x in range(len(values)):  # a third of the exponent: within 4 % of the root
        guess[x] = bits[x] // np.int32(3) + np.int32(709921077)
    for x in range(len(values)):
        t, r = values[x], root[x]
        for _ in range(2):  # Halley's method: each step has three times as many digits
            cube = r * r * r
            r *= (cube + t + t) / (cube + cube + t)
        root[x] = r
