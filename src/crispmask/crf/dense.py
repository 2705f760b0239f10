"""The fully connected CRF of P. Krähenbühl and V. Koltun, NIPS 2011, on any number of labels and any features.

E(x) = Σ_i ψ(x_i) + Σ_{i<j} μ(x_i, x_j) Σ_m w_m k_m(f_i, f_j)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.crf import meanfield
from crispmask.crf._threads import check as check_threads
from crispmask.crf.gaussian import GaussianFilter, bandwidths
from crispmask.crf.lattice import MAX_DIMENSION, PermutohedralLattice
from crispmask.crf.messages import GaussianMessage, LatticeMessage, Message
from crispmask.crf.normalization import Normalization, check
from crispmask.crf.objective import Objective
from crispmask.errors import ShapeError, ValueRangeError

# Beyond these, sums of float32 could overflow; nothing changes long before.
_MAX_WEIGHT = 1e9
_MAX_ENERGY = np.float32(1e30)


class Kernel:
    """Gaussian kernel exp(-|f_i - f_j|²/2) on any features, filtered on a permutohedral lattice.

    The lattice is built on first use and kept, so one kernel can serve many unaries on the same points.

    Args:
        features: (d, ...) float32, 1 <= d <= 16, already divided by the bandwidths; the other axes are the points'.
        weight: w in the energy, 0 to 1e9.
        normalization: what the filter K becomes, with k = K·1:
            "none" K; "before" K·diag(1/k); "after" diag(1/k)·K; "symmetric" diag(1/√k)·K·diag(1/√k).
        self_term: keep the message that a pixel sends to itself (as all common code does), or leave it out (as
            the sum over j ≠ i says). k includes it always.

    Attributes:
        shape: shape of the points.

    Raises:
        ShapeError: features without points, or d out of range.
        ValueRangeError: NaN, infinite or far too large features; a bad weight or normalization.
    """

    def __init__(
        self,
        features: ArrayLike,
        weight: float,
        *,
        normalization: Normalization = "symmetric",
        self_term: bool = True,
    ) -> None:
        array = _numbers(features, "features")
        if array.ndim < 2 or array.size == 0 or not 1 <= len(array) <= MAX_DIMENSION:
            raise ShapeError(f"features must have shape (d, ...) with d from 1 to {MAX_DIMENSION}, got {array.shape}")
        self.shape: tuple[int, ...] = array.shape[1:]
        self._features = array.reshape(len(array), -1)
        self.weight = _weight(weight)
        self.normalization = check(normalization)
        self.self_term = bool(self_term)

    def features(self, grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Float32 (d, N)."""
        return self._features

    @cached_property
    def lattice(self) -> PermutohedralLattice:
        """The lattice of the features."""
        return PermutohedralLattice(self.features(self.shape))

    def reweighted(self, weight: float, *, normalization: Normalization = "symmetric", self_term: bool = True) -> Self:
        """The kernel with another weight, normalisation and self term; both share one lattice.

        Raises:
            ValueRangeError: a bad weight or normalization.
        """
        twin = copy(self)
        twin.__dict__.pop("_message", None)
        twin.lattice = self.lattice
        twin.weight, twin.normalization, twin.self_term = _weight(weight), check(normalization), bool(self_term)
        return twin

    @cached_property
    def _message(self) -> LatticeMessage:
        return LatticeMessage(self.lattice, self.weight, self.normalization, self.self_term)

    def prepare(self, threads: int) -> None:
        """Build the lattice and normalise its filter on so many threads, unless that has been done."""
        if "lattice" not in self.__dict__:
            self.lattice = PermutohedralLattice(self.features(self.shape), threads=threads)
        if "_message" not in self.__dict__:
            self._message = LatticeMessage(self.lattice, self.weight, self.normalization, self.self_term, threads)

    def message(self, grid: tuple[int, ...]) -> Message:
        """The kernel's message on points of shape `grid`.

        Raises:
            ShapeError: a grid with another number of points.
        """
        if grid != self.shape and (prod(grid) != prod(self.shape) or 1 not in (len(grid), len(self.shape))):
            raise ShapeError(f"the unary is for points of shape {grid}, the kernel's features for {self.shape}")
        return self._message


class Bilateral(Kernel):
    """The appearance kernel exp(-|p_i - p_j|²/2θα² - |I_i - I_j|²/2θβ²).

    Args:
        image: (H, W, C) or (H, W), uint8 or float: RGB, Lab, or any other channels, C up to 14.
        theta_alpha: bandwidth of positions, pixels; one number or (θy, θx).
        theta_beta: bandwidth of colours, in the units of `image`.
        weight, normalization, self_term: as for `Kernel`.

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
    ) -> None:
        array = np.asarray(image)
        array = array if array.dtype == np.uint8 else _numbers(array, "the image")
        array = array[..., None] if array.ndim == 2 else array
        if array.ndim != 3 or array.size == 0 or array.shape[2] > MAX_DIMENSION - 2:
            raise ShapeError(
                f"the image must have shape (H, W, channels) with 1 to {MAX_DIMENSION - 2} channels, got {array.shape}"
            )
        self._image = array
        self.shape = array.shape[:2]
        self.theta_alpha = bandwidths(theta_alpha, "theta_alpha")
        self.theta_beta = bandwidths(theta_beta, "theta_beta", 1)[0]
        self.weight = _weight(weight)
        self.normalization = check(normalization)
        self.self_term = bool(self_term)

    def features(self, grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Float32 (2 + C, H * W): column, row, channels, each divided by its bandwidth."""
        height, width, channels = self._image.shape
        features = np.empty((2 + channels, height, width), np.float32)
        with np.errstate(over="ignore"):
            features[0] = np.arange(width, dtype=np.float32) / np.float32(self.theta_alpha[1])
            features[1] = (np.arange(height, dtype=np.float32) / np.float32(self.theta_alpha[0]))[:, None]
            for c in range(channels):
                np.divide(self._image[..., c], np.float32(self.theta_beta), out=features[2 + c])
        return features.reshape(2 + channels, -1)


class Gaussian:
    """The smoothness kernel exp(-|p_i - p_j|²/2θγ²) on an image grid, filtered exactly up to four θγ.

    Args:
        theta_gamma: bandwidth in pixels; one number or (θy, θx).
        weight, normalization, self_term: as for `Kernel`.

    Raises:
        ValueRangeError: a bandwidth that is not positive, a bad weight or normalization.
    """

    def __init__(
        self,
        theta_gamma: float | tuple[float, float],
        weight: float,
        *,
        normalization: Normalization = "symmetric",
        self_term: bool = True,
    ) -> None:
        self.theta_gamma = bandwidths(theta_gamma, "theta_gamma")
        self.weight = _weight(weight)
        self.normalization = check(normalization)
        self.self_term = bool(self_term)

    def features(self, grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Float32 (2, H * W): column and row, divided by the bandwidth."""
        rows, columns = np.indices(_image_grid(grid), np.float32)
        theta_y, theta_x = self.theta_gamma
        return np.stack([columns / np.float32(theta_x), rows / np.float32(theta_y)]).reshape(2, -1)

    def message(self, grid: tuple[int, ...]) -> Message:
        """The kernel's message on an image of shape `grid`, (H, W).

        Raises:
            ShapeError: points that are not an image.
        """
        gaussian = GaussianFilter(_image_grid(grid), self.theta_gamma, self.normalization)
        return GaussianMessage(gaussian, self.weight, self.self_term)


@dataclass(frozen=True)
class CRFResult:
    """What inference found.

    Attributes:
        marginals: float32 (L, ...), Q; sums to one over axis 0 to within 1e-5.
        kl: float64 (iterations + 1,), KL(Q‖P) - log Z of the start and of every iteration; None if not tracked.
        energy: float64 (iterations + 1,), energy of the likeliest labels likewise; None if not tracked.
    """

    marginals: NDArray[np.float32]
    kl: NDArray[np.float64] | None = None
    energy: NDArray[np.float64] | None = None

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The likeliest label of each point, int64 (...); the first of equals."""
        best = self.marginals[0].copy()
        labels = np.zeros(best.shape, np.int64)
        for label in range(1, len(self.marginals)):  # four times faster than argmax over the first axis
            np.copyto(labels, label, where=self.marginals[label] > best)
            np.maximum(best, self.marginals[label], out=best)
        return labels


class DenseCRF:
    """A fully connected CRF.

    Args:
        unary: (L, H, W), or (L, ...) for points of any arrangement: float32 energies, that is negative
            log-probabilities up to a constant per point.
        kernels: `Bilateral`, `Gaussian` and `Kernel` in any number.
        compatibility: None for Potts, μ(a, b) = 1 where a ≠ b; or μ as a symmetric float (L, L) matrix of penalties;
            or v, float (L,), for μ(a, a) = -v[a] and 0 elsewhere (v = 1 is Potts up to a constant).

    Raises:
        ShapeError: arrays that do not fit each other.
        ValueRangeError: NaN or infinity.

    Example:
        >>> import numpy as np
        >>> image = np.zeros((4, 6, 3), np.uint8)
        >>> image[:, 3:] = 200
        >>> unary = np.zeros((2, 4, 6), np.float32)
        >>> unary[0, :, 4:] = 1.0
        >>> crf = DenseCRF(unary, [Bilateral(image, theta_alpha=10, theta_beta=10, weight=3)])
        >>> crf.run().labels[0]
        array([0, 0, 0, 1, 1, 1])
    """

    def __init__(
        self,
        unary: ArrayLike,
        kernels: Sequence[Kernel | Gaussian],
        compatibility: ArrayLike | None = None,
    ) -> None:
        energies = _energies(unary)
        self.shape = energies.shape
        self.unary: NDArray[np.float32] = energies.reshape(len(energies), -1)
        self.kernels = tuple(kernels)
        for kernel in self.kernels:
            if not isinstance(kernel, Kernel | Gaussian):
                raise ValueRangeError(f"kernels must be Bilateral, Gaussian or Kernel objects, got {kernel!r}")
        grid: tuple[int, ...] = energies.shape[1:]
        if len(grid) == 1:  # a flat unary takes the image's shape, if a kernel has one
            grid = next((k.shape for k in self.kernels if isinstance(k, Kernel) and prod(k.shape) == grid[0]), grid)
        self.grid = grid
        self.penalty = _penalty(compatibility, len(energies))

    @cached_property
    def messages(self) -> list[Message]:
        """The kernels' messages on this CRF's points; kernels of weight zero are left out."""
        messages = [kernel.message(self.grid) for kernel in self.kernels]
        return [m for m in messages if m.weight > 0]

    def run(
        self,
        iterations: int = 10,
        track: bool = False,
        observe: Callable[[NDArray[np.float32]], None] | None = None,
        *,
        threads: int = 1,
    ) -> CRFResult:
        """Mean-field inference: `iterations` parallel updates from softmax(-unary).

        Args:
            iterations: at least 0.
            track: also compute the KL divergence and the energy at every iteration (which takes as long again).
            observe: called with the marginals, float32 (L, ...), of the start and of every iteration.
            threads: how many may share the rows of a large image, from half a million pixels on. The result has the
                same bits for any number.

        Raises:
            ValueRangeError: a number of iterations that is not a whole number of at least 0, of threads of at least 1;
                features that the lattice cannot hold.
        """
        _check_iterations(iterations)
        _prepare(self.kernels, threads)
        objective = Objective(self.unary, self.messages, self.penalty) if track else None

        def watch(marginals: NDArray[np.float32]) -> None:
            if objective:
                objective.record(marginals)
            if observe:
                observe(marginals.reshape(self.shape))

        marginals = meanfield.infer(
            self.unary,
            self.messages,
            self.penalty,
            int(iterations),
            watch if objective or observe else None,
            threads,
        )
        history: dict[str, Any] = objective.history() if objective else {}
        return CRFResult(marginals.reshape(self.shape), **history)

    def energy(self, labels: ArrayLike) -> float:
        """E(x) of a labelling.

        Args:
            labels: int (...), the shape of the points, from 0 to L - 1.

        Raises:
            ShapeError, ValueRangeError: another shape, values that are not labels.
        """
        array = np.asarray(labels)
        if array.shape not in (self.shape[1:], self.grid):
            raise ShapeError(f"labels must have shape {self.shape[1:]}, got {array.shape}")
        if array.dtype.kind not in "iub" or array.min() < 0 or array.max() >= self.shape[0]:
            raise ValueRangeError(f"labels must be whole numbers from 0 to {self.shape[0] - 1}")
        return Objective(self.unary, self.messages, self.penalty).energy(array.reshape(-1).astype(np.int64))


def two_label_marginals(
    log_odds: NDArray[np.float32],
    kernels: Sequence[Kernel | Gaussian],
    iterations: int = 10,
    *,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Foreground probabilities under a Potts model of two labels: `DenseCRF` without its copies.

    Args:
        log_odds: float32 (H, W), log(p / (1 - p)) of the foreground: the background's energy minus the foreground's.
        kernels: as for `DenseCRF`.
        iterations: at least 0.
        threads: as for `DenseCRF.run`.

    Returns:
        float32 (H, W) in [0, 1].

    Raises:
        ShapeError, ValueRangeError: as `DenseCRF`.
    """
    _check_iterations(iterations)
    energies = _energies(np.asarray(log_odds)[None])
    _prepare(kernels, threads)
    messages = [m for m in (kernel.message(energies.shape[1:]) for kernel in kernels) if m.weight > 0]
    difference = np.negative(energies).reshape(-1)
    return meanfield.two_labels(difference, messages, meanfield.POTTS, int(iterations), threads=threads).reshape(
        energies.shape[1:]
    )


def _numbers(array: ArrayLike, name: str) -> NDArray[np.float32]:
    """As C-contiguous float32, real and finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        given = np.asarray(array)
        if given.dtype.kind not in "fiub":
            raise ValueRangeError(f"{name} must be real numbers, got dtype {given.dtype}")
        result: NDArray[np.float32] = np.ascontiguousarray(given, np.float32)
    # NaN and infinity show in the extremes: one look at the data, no temporary array.
    if result.size and not (np.isfinite(result.min()) and np.isfinite(result.max())):
        raise ValueRangeError(f"{name} must be finite: found NaN, infinity, or numbers beyond float32")
    return result


def _energies(unary: ArrayLike) -> NDArray[np.float32]:
    array = _numbers(unary, "the unary")
    if array.ndim < 2 or array.size == 0:
        raise ShapeError(f"the unary must have shape (L, H, W) or (L, N) and not be empty, got {array.shape}")
    if max(-array.min(), array.max()) > _MAX_ENERGY:
        array = np.clip(array, -_MAX_ENERGY, _MAX_ENERGY)
    return array


def _weight(weight: float) -> float:
    try:
        value = float(weight)
    except (TypeError, ValueError):
        raise ValueRangeError(f"weight must be a number, got {weight!r}") from None
    if not 0 <= value <= _MAX_WEIGHT:
        raise ValueRangeError(f"weight must be from 0 to {_MAX_WEIGHT:.0e}, got {weight!r}")
    return value


def _penalty(compatibility: ArrayLike | None, count: int) -> NDArray[np.float32] | None:
    if compatibility is None:
        return None
    array = _numbers(compatibility, "the compatibility")
    if array.shape not in ((count,), (count, count)):
        raise ShapeError(f"the compatibility must have shape ({count},) or ({count}, {count}), got {array.shape}")
    if abs(array).max() > _MAX_WEIGHT:
        raise ValueRangeError(f"the compatibility must lie within ±{_MAX_WEIGHT:.0e}")
    return array if array.ndim == 2 else -np.diag(array)


def _check_iterations(iterations: int) -> None:
    whole = isinstance(iterations, int | np.integer) and not isinstance(iterations, bool)
    if not whole or iterations < 0:
        raise ValueRangeError(f"iterations must be a whole number of at least 0, got {iterations!r}")


def _prepare(kernels: Sequence[Kernel | Gaussian], threads: int) -> None:
    if check_threads(threads) > 1:
        for kernel in kernels:
            if isinstance(kernel, Kernel) and kernel.weight > 0:
                kernel.prepare(threads)


def _image_grid(grid: tuple[int, ...]) -> tuple[int, int]:
    if len(grid) != 2:
        raise ShapeError(f"the Gaussian kernel needs an image grid, a unary of shape (L, H, W); the points are {grid}")
    return grid[0], grid[1]
