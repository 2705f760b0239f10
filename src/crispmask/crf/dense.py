"""The fully connected CRF of P. Krähenbühl and V. Koltun, NIPS 2011, on any number of labels and any features.

E(x) = Σ_i ψ(x_i) + Σ_{i<j} μ(x_i, x_j) Σ_m w_m k_m(f_i, f_j)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.arguments import sequence, whole
from crispmask.crf import meanfield
from crispmask.crf._checks import MAX_WEIGHT, real_numbers
from crispmask.crf._threads import check as check_threads
from crispmask.crf.kernels import Gaussian, Kernel
from crispmask.crf.messages import Message
from crispmask.crf.objective import Objective
from crispmask.crf.tensors import device_of, host, is_tensor, numbers
from crispmask.crf.unaries import unary_from_labels, unary_from_probabilities
from crispmask.errors import ShapeError, ValueRangeError

# Beyond it, sums of float32 could overflow; nothing changes long before.
_MAX_ENERGY = 1e30


@dataclass(frozen=True)
class CRFResult:
    """The result of inference.

    Attributes:
        marginals: float32 (L, ...), Q; sums to one over axis 0 to within 1e-5. A tensor where the unary was one.
        kl: float64 (iterations + 1,), KL(Q‖P) - log Z of the initial marginals and of each iteration, in nats; None if
            not tracked.
        energy: float64 (iterations + 1,), the energy of the likeliest labels, in the same way.
    """

    marginals: Any
    kl: NDArray[np.float64] | None = None
    energy: NDArray[np.float64] | None = None

    @cached_property
    def labels(self) -> Any:
        """The likeliest label of each point, int64 (...); of equally likely ones the first. A tensor, or an array."""
        if is_tensor(self.marginals):
            return self.marginals.argmax(0)
        best = self.marginals[0].copy()
        labels = np.zeros(best.shape, np.int64)
        for label in range(1, len(self.marginals)):  # four times faster than argmax over the first axis
            np.copyto(labels, label, where=self.marginals[label] > best)
            np.maximum(best, self.marginals[label], out=best)
        return labels


class DenseCRF:
    """A fully connected CRF: equations 1 and 2 of Krähenbühl and Koltun 2011, with mean-field inference.

    Args:
        unary: (L, H, W), or (L, ...) for points of any arrangement: float32 energies, that is negative
            log-probabilities up to a constant per point.
        kernels: any number of `Bilateral`, `Gaussian` and `Kernel`.
        compatibility: None for Potts, μ(a, b) = 1 where a ≠ b; or μ as a symmetric float (L, L) matrix of penalties;
            or v, float (L,), for μ(a, a) = -v[a] and 0 elsewhere (v = 1 is Potts up to a constant).
        device: where inference works, such as "cuda" (extra ``torch``); None for where the unary is. Arrays and tensors
            on the CPU are worked on by Numba. A tensor in gives tensors out, on the device; arrays give arrays.

    Raises:
        MissingExtraError, ParamsError: a device without torch, or one that there is not.
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
        *,
        device: Any = None,
    ) -> None:
        self.device = device_of(device, unary)
        self._tensors = is_tensor(unary)
        energies = _energies(unary)
        self.shape: tuple[int, ...] = tuple(energies.shape)
        self.unary = energies.reshape(len(energies), -1)
        self.kernels = sequence(kernels, "kernels")
        for kernel in self.kernels:
            if not isinstance(kernel, Kernel | Gaussian):
                raise ValueRangeError(f"kernels must be Bilateral, Gaussian or Kernel objects, got {kernel!r}")
        grid: tuple[int, ...] = energies.shape[1:]
        if len(grid) == 1:  # a flat unary takes the image's shape, if a kernel has one
            grid = next((k.shape for k in self.kernels if isinstance(k, Kernel) and prod(k.shape) == grid[0]), grid)
        self.grid = grid
        self.penalty = _penalty(compatibility, len(energies))

    @classmethod
    def from_probabilities(cls, probabilities: Any, kernels: Sequence[Kernel | Gaussian], **options: Any) -> DenseCRF:
        """The CRF with -log of probabilities, float (L, ...) such as a softmax, as the unary.

        Args:
            probabilities: see `unary_from_probabilities`.
            kernels, options: as for `DenseCRF`.
        """
        return cls(unary_from_probabilities(probabilities), kernels, **options)

    @classmethod
    def from_labels(
        cls,
        labels: ArrayLike,
        count: int,
        kernels: Sequence[Kernel | Gaussian],
        *,
        confidence: float = 0.7,
        unknown: int | None = None,
        **options: Any,
    ) -> DenseCRF:
        """The CRF with energies made of labels, int (...), that are right with a probability of `confidence`.

        Args:
            labels, count, confidence, unknown: see `unary_from_labels`.
            kernels, options: as for `DenseCRF`.
        """
        unary = unary_from_labels(labels, count, confidence=confidence, unknown=unknown)
        return cls(unary, kernels, **options)

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
        """Mean-field inference, algorithm 1 of the paper: `iterations` parallel updates, starting from softmax(-unary).

        Args:
            iterations: at least 0.
            track: also compute the KL divergence and the energy of each iteration, which doubles the time. They are
                computed on the CPU, whatever the device.
            observe: called with the marginals, float32 (L, ...), before the first and after each iteration.
            threads: number of threads for images of half a million pixels and more. The result has the same bits for
                any number.

        Raises:
            ValueRangeError: `iterations` that are not a whole number of at least 0, or `threads` of at least 1;
                features that the lattice cannot hold.
        """
        check_iterations(iterations)
        if self.device is None:
            _prepare(self.kernels, threads)
        objective = self._objective() if track else None

        def watch(marginals: Any) -> None:
            if objective:
                objective.record(host(marginals))
            if observe:
                observe(self._given(marginals))

        see = watch if objective or observe else None
        if self.device is None:
            marginals = meanfield.infer(self.unary, self.messages, self.penalty, int(iterations), see, threads)
        else:
            from crispmask.crf import on_device

            energies = on_device.placed(self.unary, self.device)
            marginals = on_device.infer(energies, self.grid, self.kernels, self.penalty, int(iterations), see)
        history: dict[str, Any] = objective.history() if objective else {}
        return CRFResult(self._given(marginals), **history)

    def energy(self, labels: ArrayLike) -> float:
        """E(x) of a labelling.

        Args:
            labels: int (...), the shape of the points, from 0 to L - 1.

        Raises:
            ShapeError, ValueRangeError: labels of another shape, or values that are not labels.
        """
        array = host(labels)
        if array.shape not in (self.shape[1:], self.grid):
            raise ShapeError(f"labels must have shape {self.shape[1:]}, got {array.shape}")
        if array.dtype.kind not in "iub" or array.min() < 0 or array.max() >= self.shape[0]:
            raise ValueRangeError(f"labels must be whole numbers from 0 to {self.shape[0] - 1}")
        return self._objective().energy(array.reshape(-1).astype(np.int64))

    def _objective(self) -> Objective:
        """Always on the CPU."""
        return Objective(host(self.unary), self.messages, self.penalty)

    def _given(self, marginals: Any) -> Any:
        """Marginals (L, N) as (L, ...), an array or a tensor as the unary was."""
        shaped = marginals.reshape(self.shape)
        if not self._tensors:
            return host(shaped)
        if is_tensor(shaped):
            return shaped
        import torch

        return torch.from_numpy(shaped)


def two_label_marginals(
    log_odds: NDArray[np.float32],
    kernels: Sequence[Kernel | Gaussian],
    iterations: int = 10,
    *,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Foreground probabilities of two labels under a Potts model: as `DenseCRF`, with fewer copies.

    Args:
        log_odds: float32 (H, W), log(p / (1 - p)) of the foreground probability p, in nats.
        kernels: as for `DenseCRF`.
        iterations: at least 0.
        threads: as for `DenseCRF.run`.

    Returns:
        float32 (H, W) in [0, 1].

    Raises:
        ShapeError, ValueRangeError: as `DenseCRF`.
    """
    check_iterations(iterations)
    grid = np.shape(log_odds)
    # The energy of the foreground minus that of the background.
    difference = np.negative(_energies(np.asarray(log_odds)[None])).reshape(-1)
    _prepare(kernels, threads)
    messages = [m for m in (kernel.message(grid) for kernel in kernels) if m.weight > 0]
    marginals = meanfield.two_labels(difference, messages, meanfield.POTTS, int(iterations), threads=threads)
    return marginals.reshape(grid)


def _energies(unary: Any) -> Any:
    array = numbers(unary, "the unary")
    if array.ndim < 2 or 0 in array.shape:
        raise ShapeError(f"the unary must have shape (L, H, W) or (L, N) and not be empty, got {tuple(array.shape)}")
    if max(-array.min(), array.max()) > _MAX_ENERGY:
        array = array.clip(-_MAX_ENERGY, _MAX_ENERGY)
    return array


def _penalty(compatibility: ArrayLike | None, count: int) -> NDArray[np.float32] | None:
    if compatibility is None:
        return None
    array = real_numbers(host(compatibility), "the compatibility")
    if array.shape not in ((count,), (count, count)):
        raise ShapeError(f"the compatibility must have shape ({count},) or ({count}, {count}), got {array.shape}")
    if abs(array).max() > MAX_WEIGHT:
        raise ValueRangeError(f"the compatibility must lie within ±{MAX_WEIGHT:.0e}")
    return array if array.ndim == 2 else -np.diag(array)


def check_iterations(iterations: int) -> None:
    """ValueRangeError for what is not a whole number of at least 0."""
    whole(iterations, "iterations", 0)


def _prepare(kernels: Sequence[Kernel | Gaussian], threads: int) -> None:
    if check_threads(threads) > 1:
        for kernel in kernels:
            if isinstance(kernel, Kernel) and kernel.weight > 0:
                kernel.prepare(threads)
