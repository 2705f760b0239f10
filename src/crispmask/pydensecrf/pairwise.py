"""One pairwise term: features in a lattice, a normalisation, and a label compatibility."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from crispmask.crf import _lattice_filters
from crispmask.crf.lattice import PermutohedralLattice
from crispmask.crf.normalization import Normalization, factors
from crispmask.pydensecrf import _kernels
from crispmask.pydensecrf.kinds import NormalizationType

_NAMES: dict[int, Normalization] = {
    NormalizationType.NORMALIZE_BEFORE: "before",
    NormalizationType.NORMALIZE_AFTER: "after",
    NormalizationType.NORMALIZE_SYMMETRIC: "symmetric",
}


class PairwiseTerm:
    """Messages P(Q) = mu · (after · K · before) Q of one kernel; immutable, so models and threads may share it.

    Args:
        features: returns the features, float32 (d, N); called again when the term is unpickled, because a pickled
            lattice would be much larger.
        mu: label compatibility, float32 (L,) diagonal or (L, L) symmetric.
        normalization: a value of :class:`NormalizationType`; any other int means none.

    Attributes:
        lattice: K, with the phantom points that pad N to a multiple of four, as in the original.
        before, after: float32 (N,), the normalisation's factors on the input and the output of K.
        mu: as given.
    """

    def __init__(self, features: Callable[[], np.ndarray], mu: np.ndarray, normalization: int) -> None:
        self._features = features
        self._normalization = normalization
        self.mu = mu
        self.lattice = PermutohedralLattice(features(), phantom=True)
        self.before, self.after = factors(_row_sums(self.lattice), _NAMES.get(normalization, "none"))

    def __reduce__(self) -> tuple[Any, ...]:
        return PairwiseTerm, (self._features, self.mu, self._normalization)

    def __deepcopy__(self, memo: dict[int, Any]) -> PairwiseTerm:
        return self

    def messages(self, q: np.ndarray) -> np.ndarray:
        """P(Q)[a, i] = Σ_b mu(a, b) · (after · K · before Q)[b, i], float32 (L, N) from float32 (L, N)."""
        values = q * self.before
        self.lattice.filter(values, out=values)
        values *= self.after
        if self.mu.ndim == 2:
            return self.mu @ values
        values *= self.mu[:, np.newaxis]
        return values


def _row_sums(lattice: PermutohedralLattice) -> np.ndarray:
    """K applied to ones, float32 (N,), by the kernels of inference: the same bits as in the original."""
    kernels = _kernels.make(lattice.dimension + 1)
    n, ones = lattice.size, np.ones(lattice.size, np.float32)
    new, old = np.zeros((2, lattice.vertices + 1, 2), np.float32)
    kernels.splat_two(np.ones((n, 2), np.float32), lattice.corners, lattice.weights, ones, 0, n, new)
    _lattice_filters.blur(2)(new.reshape(-1), old.reshape(-1), lattice.around, 0, lattice.vertices)
    blurred = new if len(lattice.around) % 2 == 0 else old
    sums, minus = np.zeros((n, 2), np.float32), -np.eye(2, dtype=np.float32)
    kernels.gather_two(blurred, minus, lattice.corners, lattice.weights, lattice.alpha, ones, 0, sums)
    return sums[:, 0].copy()
