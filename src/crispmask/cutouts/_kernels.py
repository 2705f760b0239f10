"""The loop of the multi-level foreground estimation."""

from __future__ import annotations

import numpy as np

from crispmask.runtime import jit


@jit
def relax(image, alpha, foreground, background, times, smoothness, edges, mixed_only):
    """Improve foreground and background in place, pixel by pixel, so that they explain the image and are smooth.

    Args:
        image: float32 (h, w, 3); alpha: float32 (h, w) in [0, 1].
        foreground, background: float32 (h, w, 3), in the image's unit; the start, and the result.
        times: how often all pixels are visited.
        smoothness: weight of the differences between neighbours.
        edges: further weight of these per difference of alpha.
        mixed_only: whether pixels of alpha 0 and 1 are left as they are.
    """
    height, width = alpha.shape
    f, b = np.empty(3, np.float32), np.empty(3, np.float32)
    for _ in range(times):
        for y in range(height):
            for x in range(width):
                a = alpha[y, x]
                if mixed_only and (a == 0 or a == 1):
                    continue
                c = np.float32(1) - a
                f[:] = a * image[y, x]
                b[:] = c * image[y, x]
                total = np.float32(0)
                for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                    v, u = min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)
                    weight = smoothness + edges * abs(a - alpha[v, u])
                    total += weight
                    for k in range(3):
                        f[k] += weight * foreground[v, u, k]
                        b[k] += weight * background[v, u, k]
                # The 2 x 2 system of this pixel: [a a + t, a c; a c, c c + t] [F; B] = [f; b].
                determinant = total * (a * a + c * c + total)
                for k in range(3):
                    foreground[y, x, k] = ((c * c + total) * f[k] - a * c * b[k]) / determinant
                    background[y, x, k] = ((a * a + total) * b[k] - a * c * f[k]) / determinant
