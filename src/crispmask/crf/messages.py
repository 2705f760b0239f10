"""Messages of mean field: a kernel's filter with its normalisation, self term and weight."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispmask.crf.gaussian import GaussianFilter
from crispmask.crf.lattice import PermutohedralLattice
from crispmask.crf.normalization import Normalization, factors
from crispmask.crf.volume_filter import VolumeFilter


class Among(NamedTuple):
    """Which of N points a kernel knows.

    Attributes:
        points: int32 (K,), their numbers, in rising order.
        counts: float32 (K,), how many points each of them stands for.
        size: N.
    """

    points: NDArray[np.int32]
    counts: NDArray[np.float32]
    size: int

    def spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of the known points (..., K) as values of all, (..., N): zero elsewhere."""
        everywhere = np.zeros((*values.shape[:-1], self.size), np.float32)
        everywhere[..., self.points] = values
        return everywhere


class LatticeMessage:
    """Q -> weight · post · K (pre · Q), with K a permutohedral lattice; without the self term if that is left out.

    Attributes:
        pre, post: float32 (K,), the normalisation; `pre` includes the counts.
        among: the K points of the lattice among all N; None where they are all.
    """

    def __init__(
        self,
        lattice: PermutohedralLattice,
        weight: float,
        normalization: Normalization,
        self_term: bool,
        threads: int = 1,
        among: Among | None = None,
    ) -> None:
        self.lattice, self.weight, self.self_term, self.among = lattice, np.float32(weight), self_term, among
        counts = np.ones(lattice.size, np.float32) if among is None else among.counts
        if normalization == "none":
            self.pre, self.post = counts, np.ones_like(counts)
        else:
            self.pre, self.post = factors(lattice.filter(counts[None], threads=threads)[0], normalization)
            if among is not None:
                self.pre = self.pre * counts

    def apply(self, values: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """The message of float32 (C, N), same shape out."""
        known = values if self.among is None else values[:, self.among.points]
        message = self.lattice.filter(known * self.pre, threads=threads)
        message *= self.post * self.weight
        if self.among is not None:
            message = self.among.spread(message)
        if not self.self_term:
            message -= self.own * values
        return message

    @cached_property
    def own(self) -> NDArray[np.float32]:
        """The factor of each pixel's own value in its message: float32 (N,)."""
        own: NDArray[np.float32] = self.lattice.diagonal() * self.pre * self.post * self.weight
        return own if self.among is None else self.among.spread(own)


class GaussianMessage:
    """The same for the smoothness kernel, whose filter includes the normalisation."""

    def __init__(self, gaussian: GaussianFilter, weight: float, self_term: bool) -> None:
        self.gaussian, self.weight, self.self_term = gaussian, np.float32(weight), self_term

    def apply(self, values: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """The message of float32 (C, N), same shape out."""
        message = self.gaussian.filter(values.reshape(-1, *self.gaussian.shape)).reshape(values.shape)
        message *= self.weight
        if not self.self_term:
            message -= self.own * values
        return message

    @cached_property
    def own(self) -> NDArray[np.float32]:
        """The factor of each pixel's own value in its message: float32 (N,)."""
        return self.gaussian.diagonal().reshape(-1) * self.weight


class VolumeMessage:
    """The same in a volume."""

    def __init__(self, volume: VolumeFilter, weight: float, self_term: bool) -> None:
        self.volume, self.weight, self.self_term = volume, np.float32(weight), self_term

    def apply(self, values: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """The message of float32 (C, N), same shape out."""
        message = self.volume.filter(values.reshape(-1, *self.volume.shape), float(self.weight), threads=threads)
        message = message.reshape(values.shape)
        if not self.self_term:
            message -= self.own * values
        return message

    @cached_property
    def own(self) -> NDArray[np.float32]:
        """What each voxel's message holds of its own value: float32 (N,)."""
        return self.volume.diagonal().reshape(-1) * self.weight


Message = LatticeMessage | GaussianMessage | VolumeMessage
