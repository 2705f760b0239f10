"""Messages of mean field: a kernel's filter with its normalisation, self term and weight."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crispmask.crf.gaussian import GaussianFilter
from crispmask.crf.lattice import PermutohedralLattice
from crispmask.crf.normalization import Normalization, factors
from crispmask.crf.volume_filter import VolumeFilter


class LatticeMessage:
    """Q -> weight · post · K (pre · Q), with K a permutohedral lattice; without the self term if that is left out.

    Attributes:
        pre, post: float32 (N,), the normalisation.
    """

    def __init__(
        self,
        lattice: PermutohedralLattice,
        weight: float,
        normalization: Normalization,
        self_term: bool,
        threads: int = 1,
    ) -> None:
        self.lattice, self.weight, self.self_term = lattice, np.float32(weight), self_term
        n = lattice.size
        if normalization == "none":
            self.pre = self.post = np.ones(n, np.float32)
        else:
            self.pre, self.post = factors(
                lattice.filter(np.ones((1, n), np.float32), threads=threads)[0], normalization
            )

    def apply(self, values: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """The message of float32 (C, N), same shape out."""
        message = self.lattice.filter(values * self.pre, threads=threads)
        message *= self.post * self.weight
        if not self.self_term:
            message -= self.own * values
        return message

    @cached_property
    def own(self) -> NDArray[np.float32]:
        """The factor of each pixel's own value in its message: float32 (N,)."""
        return self.lattice.diagonal() * self.pre * self.post * self.weight


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
