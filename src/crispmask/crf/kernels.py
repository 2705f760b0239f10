"""The pairwise kernels: Gaussians of any features, of positions and colours, and of positions alone."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.arguments import as_array, flag, number
from crispmask.crf._checks import MAX_WEIGHT, real_numbers
from crispmask.crf.gaussian import GaussianFilter, bandwidths
from crispmask.crf.lattice import MAX_DIMENSION, PermutohedralLattice
from crispmask.crf.messages import Among, GaussianMessage, LatticeMessage, Message, VolumeMessage
from crispmask.crf.normalization import Normalization, check
from crispmask.crf.tensors import host, numbers, on_gpu
from crispmask.crf.volume_filter import VolumeFilter
from crispmask.errors import ShapeError, ValueRangeError


class Kernel:
    """Gaussian kernel exp(-|f_i - f_j|²/2) on any features, filtered on a permutohedral lattice.

    The lattice is built at the first use and kept, so that one kernel can be used with many unaries on the same points.

    A. Adams, J. Baek and A. Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics
    2010.

    Args:
        features: float32 (d, ...), 1 <= d <= 64, already divided by the bandwidths; the other axes are those of the
            points.
        weight: w in the energy, 0 to 1e9.
        normalization: what the filter K becomes, with k = K·1:
            "none" K; "before" K·diag(1/k); "after" diag(1/k)·K; "symmetric" diag(1/√k)·K·diag(1/√k).
        self_term: keep the message of a pixel to itself (as other implementations do), or leave it out (as the sum
            over j ≠ i in the paper). k always includes it.
        counts: float, the shape of the points: how many points each one stands for, K being then K·diag(counts). One
            of count 0 neither sends nor gets a message, and costs nothing. By default each stands for itself.

    Attributes:
        shape: shape of the points.
        among: those whose count is not 0; None where no counts are given.

    Raises:
        ShapeError: features without points, or d out of range; counts of another shape.
        ValueRangeError: NaN, infinite or far too large features; a bad weight or normalization; counts that are
            negative, not finite, or all 0.
    """

    def __init__(
        self,
        features: ArrayLike,
        weight: float,
        *,
        normalization: Normalization = "symmetric",
        self_term: bool = True,
        counts: ArrayLike | None = None,
    ) -> None:
        array = numbers(features, "features")
        if array.ndim < 2 or 0 in array.shape or not 1 <= len(array) <= MAX_DIMENSION:
            raise ShapeError(
                f"features must have shape (d, ...) with d from 1 to {MAX_DIMENSION}, got {tuple(array.shape)}"
            )
        self.shape: tuple[int, ...] = tuple(array.shape[1:])
        self._features = array.reshape(len(array), -1)
        self._set(weight, normalization, self_term, counts)

    def _set(self, weight: float, normalization: str, self_term: bool, counts: ArrayLike | None) -> None:
        self.weight = _weight(weight)
        self.normalization = check(normalization)
        self.self_term = flag(self_term, "self_term")
        self.among = None if counts is None else _among(counts, self.shape)

    def features(self, grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Float32 (d, N)."""
        return host(self._features)

    def tensor_features(self) -> Any:
        """The same, as they were given: an array, or a tensor that is not on the CPU."""
        return self._features

    def features_of_points(self) -> NDArray[np.float32]:
        """Of those that `among` knows: float32 (d, K)."""
        features = self.features(self.shape)
        return features if self.among is None else features[:, self.among.points]

    @cached_property
    def lattice(self) -> PermutohedralLattice:
        """The lattice of `features_of_points`."""
        return PermutohedralLattice(self.features_of_points())

    def reweighted(self, weight: float, *, normalization: Normalization = "symmetric", self_term: bool = True) -> Self:
        """A kernel with the same lattice and another weight, normalisation and self term.

        Raises:
            ValueRangeError: a bad weight or normalization.
        """
        twin = copy(self)
        twin.__dict__.pop("_message", None)
        twin.lattice = self.lattice
        twin.weight, twin.normalization = _weight(weight), check(normalization)
        twin.self_term = flag(self_term, "self_term")
        return twin

    @cached_property
    def _message(self) -> LatticeMessage:
        return self._made_message()

    def _made_message(self, threads: int = 1) -> LatticeMessage:
        return LatticeMessage(self.lattice, self.weight, self.normalization, self.self_term, threads, self.among)

    def prepare(self, threads: int) -> None:
        """Build the lattice and compute the normalisation with `threads` threads, unless that has been done."""
        if "lattice" not in self.__dict__:
            self.lattice = PermutohedralLattice(self.features_of_points(), threads=threads)
        if "_message" not in self.__dict__:
            self._message = self._made_message(threads)

    def message(self, grid: tuple[int, ...]) -> Message:
        """The kernel's message on points of shape `grid`.

        Raises:
            ShapeError: a grid with another number of points.
        """
        if grid != self.shape and (prod(grid) != prod(self.shape) or 1 not in (len(grid), len(self.shape))):
            raise ShapeError(f"the unary is for points of shape {grid}, the kernel's features for {self.shape}")
        return self._message


class Bilateral(Kernel):
    """The appearance kernel exp(-|p_i - p_j|²/2θα² - |I_i - I_j|²/2θβ²), equation 3 of Krähenbühl and Koltun 2011.

    Args:
        image: (H, W, C) or (H, W), uint8 or float: RGB, Lab, or any other channels, C up to 62. An array or a tensor.
        theta_alpha: bandwidth of positions, pixels; one number or (θy, θx).
        theta_beta: bandwidth of colours, in the units of `image`.
        weight, normalization, self_term, counts: as for `Kernel`.

    Raises:
        ShapeError, ValueRangeError: an image of another shape, NaN, a bandwidth that is not positive.
    """

    def __init__(
        self,
        image: ArrayLike,
        theta_alpha: float | tuple[float, float],
        theta_beta: float,
        weight: float,
        *,
        normalization: Normalization = "symmetric",
        self_term: bool = True,
        counts: ArrayLike | None = None,
    ) -> None:
        array: Any = image if on_gpu(image) else host(image)
        array = array if str(array.dtype).endswith("uint8") else numbers(array, "the image")
        array = array[..., None] if array.ndim == 2 else array
        if array.ndim != 3 or 0 in array.shape or array.shape[2] > MAX_DIMENSION - 2:
            raise ShapeError(
                f"the image must have shape (H, W, channels) with 1 to {MAX_DIMENSION - 2} channels, "
                f"got {tuple(array.shape)}"
            )
        self.image = array
        self.shape = tuple(array.shape[:2])
        self.theta_alpha = bandwidths(theta_alpha, "theta_alpha")
        self.theta_beta = bandwidths(theta_beta, "theta_beta", 1)[0]
        self._set(weight, normalization, self_term, counts)

    def features(self, grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Float32 (2 + C, H * W): column, row, channels, each divided by its bandwidth."""
        places = np.meshgrid(*map(np.arange, self.shape), indexing="ij", sparse=True)
        features = self._features_at(places, host(self.image))
        return features.reshape(len(features), -1)

    def features_of_points(self) -> NDArray[np.float32]:
        """Of those that `among` knows: float32 (2 + C, K)."""
        if self.among is None:
            return self.features(self.shape)
        image, points = host(self.image), self.among.points
        return self._features_at(
            np.unravel_index(points, self.shape), image.reshape(-1, image.shape[-1]).take(points, 0)
        )

    def _features_at(self, places: Sequence[NDArray[np.int64]], colours: NDArray[Any]) -> NDArray[np.float32]:
        """Of the points at `places`, one array per axis, which have `colours` (..., C): float32 (axes + C, ...)."""
        axes, channels = len(places), colours.shape[-1]
        features = np.empty((axes + channels, *colours.shape[:-1]), np.float32)
        with np.errstate(over="ignore"):
            for place, axis in enumerate(reversed(range(axes))):
                features[place] = places[axis].astype(np.float32) / np.float32(self.theta_alpha[axis])
            for c in range(channels):
                np.divide(colours[..., c], np.float32(self.theta_beta), out=features[axes + c])
        return features

    def tensor_features(self) -> Any:
        """The features as they are where the image is."""
        return self.features(self.shape)


class Gaussian:
    """The smoothness kernel exp(-|p_i - p_j|²/2θγ²) on an image grid, equation 3 of Krähenbühl and Koltun 2011.

    It is filtered exactly, but cut off at four θγ.

    Args:
        theta_gamma: bandwidth in pixels; one number or (θy, θx); for volumes one or (θz, θy, θx), in voxels.
        weight, normalization, self_term: as for `Kernel`.

    Raises:
        ValueRangeError: a bandwidth that is not positive, a bad weight or normalization.
    """

    def __init__(
        self,
        theta_gamma: float | tuple[float, ...],
        weight: float,
        *,
        normalization: Normalization = "symmetric",
        self_term: bool = True,
    ) -> None:
        count = 3 if as_array(theta_gamma, "theta_gamma").shape == (3,) else 2
        self.theta_gamma = bandwidths(theta_gamma, "theta_gamma", count)
        self.weight = _weight(weight)
        self.normalization = check(normalization)
        self.self_term = flag(self_term, "self_term")

    def features(self, grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Float32 (2, H * W): column and row, divided by the bandwidth; for volumes column, row and plane."""
        thetas = self._thetas(grid)
        places = np.indices(grid, np.float32)
        return np.stack([places[a] / np.float32(thetas[a]) for a in reversed(range(len(grid)))]).reshape(len(grid), -1)

    def message(self, grid: tuple[int, ...]) -> Message:
        """The kernel's message on an image of shape `grid`, (H, W), or a volume (D, H, W).

        Raises:
            ShapeError: points that are neither.
        """
        thetas = self._thetas(grid)
        if len(thetas) == 3:
            volume = VolumeFilter((grid[0], grid[1], grid[2]), thetas, self.normalization)
            return VolumeMessage(volume, self.weight, self.self_term)
        gaussian = GaussianFilter((grid[0], grid[1]), (thetas[0], thetas[1]), self.normalization)
        return GaussianMessage(gaussian, self.weight, self.self_term)

    def _thetas(self, grid: tuple[int, ...]) -> tuple[float, ...]:
        """One bandwidth per axis of the grid."""
        if len(grid) not in (2, 3):
            raise ShapeError(
                "the Gaussian kernel needs an image grid, a unary of shape (L, H, W), or a volume's (L, D, H, W); "
                f"the points are {grid}"
            )
        if len(grid) == len(self.theta_gamma):
            return self.theta_gamma
        if len(set(self.theta_gamma)) > 1:
            raise ShapeError(f"theta_gamma has {len(self.theta_gamma)} bandwidths, the grid {grid} {len(grid)} axes")
        return self.theta_gamma[:1] * len(grid)


def _among(counts: ArrayLike, shape: tuple[int, ...]) -> Among:
    """The points that count, and how much."""
    array = real_numbers(host(counts), "counts")
    if array.shape != shape:
        raise ShapeError(f"counts must have the shape of the points, {shape}, got {array.shape}")
    if array.min() < 0 or not array.any():
        raise ValueRangeError("counts must be at least 0, and not all of them 0")
    points = np.flatnonzero(array > 0).astype(np.int32)
    return Among(points, array.reshape(-1)[points], array.size)


def _weight(weight: float) -> float:
    return float(number(weight, "weight", 0, MAX_WEIGHT))
