"""The smoothness kernel in a volume: a separable Gaussian along three axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.crf._threads import bounds, check, thread_pool
from crispmask.crf.gaussian import GaussianFilter, _half_kernel, _row_sums
from crispmask.crf.normalization import Normalization, factors
from crispmask.errors import ShapeError


class VolumeFilter:
    """exp(-Σ_a (p_a - q_a)²/2θ_a²) over z, y and x, cut at four θ, zero outside; `GaussianFilter` with planes.

    Args:
        shape: (D, H, W), voxels.
        theta: standard deviations in voxels, (θz, θy, θx).
        normalization: "none", "before", "after" or "symmetric"; see `crispmask.crf.Kernel`.

    Raises:
        ShapeError, ValueRangeError: an empty grid, a bandwidth that is not positive and finite.
    """

    def __init__(
        self, shape: tuple[int, int, int], theta: tuple[float, ...], normalization: Normalization = "none"
    ) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise ShapeError(f"a volume must be (D, H, W) with at least one voxel, got {tuple(shape)}")
        depth, height, width = (int(n) for n in shape)
        self.shape = (depth, height, width)
        self._plane = GaussianFilter((height, width), (theta[1], theta[2]), normalization)
        self._taps = _half_kernel(theta[0], depth)
        self._pre, self._post = factors(_row_sums(self._taps, depth), normalization)

    def filter(self, values: ArrayLike, weight: float = 1.0, *, threads: int = 1) -> NDArray[np.float32]:
        """The (normalised) kernel times `weight`, applied to every channel, the voxel's own term included.

        Args:
            values: float32 (C, D, H, W).
            weight: a factor on the result.
            threads: how many may share the planes; the result has the same bits for any number.

        Returns:
            float32 (C, D, H, W).

        Raises:
            ShapeError: another shape.
        """
        from crispmask.crf._volume_kernels import filter_planes

        array = np.ascontiguousarray(values, np.float32)
        if array.ndim != 4 or array.shape[1:] != self.shape:
            raise ShapeError(f"values must have shape (channels, {', '.join(map(str, self.shape))}), got {array.shape}")
        out = np.empty_like(array)
        post = self._post * np.float32(weight)
        plane = self._plane.arguments()
        with thread_pool(check(threads)) as run:
            for channel, result in zip(array, out, strict=True):
                run(
                    lambda span: filter_planes(channel, *span, self._taps, self._pre, post, *plane, result),  # noqa: B023
                    bounds(self.shape[0], threads),
                )
        return out

    def diagonal(self) -> NDArray[np.float32]:
        """The voxels' own terms: float32 (D, H, W)."""
        own: NDArray[np.float32] = (self._pre * self._post)[:, None, None] * self._plane.diagonal()
        return own
