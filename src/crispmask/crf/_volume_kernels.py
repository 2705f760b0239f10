"""Compiled loops of the separable Gaussian in a volume: planes are filtered along z, and at once along y and x."""

from __future__ import annotations

import numpy as np

from crispmask.crf._gaussian_kernels import filter_grid
from crispmask.crf._numba import relaxed_jit


@relaxed_jit
def _mix(total, plane, weight):
    for i in range(total.shape[0]):
        total[i] += weight * plane[i]


@relaxed_jit
def filter_planes(
    volume, first, last, taps_z, pre_z, post_z, taps_y, taps_x, pre_y, pre_x, post_y, post_x, out
):  # fmt: skip
    """Planes `first` to `last` of one channel (D, H, W), into `out`, which must be another array."""
    depth, height, width = volume.shape
    radius = taps_z.shape[0] - 1
    flat = volume.reshape(depth, height * width)
    total = np.empty(height * width, np.float32)
    plane = total.reshape(height, width)
    for z in range(first, last):
        total[:] = np.float32(0)
        for other in range(max(0, z - radius), min(depth, z + radius + 1)):
            _mix(total, flat[other], taps_z[abs(other - z)] * pre_z[other] * post_z[z])
        filter_grid(plane, taps_y, taps_x, pre_y, pre_x, post_y, post_x, out[z])
