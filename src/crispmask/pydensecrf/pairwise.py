"""One pairwise term: features in a lattice, a normalisation, and a label compatibility."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from crispmask.crf.lattice import PermutohedralLattice
from crispmask.crf.normalization import Normalization, factors
from crispmask.pydensecrf.kinds import NormalizationType

_NAMES: dict[int, Normalization] = {
    NormalizationType.NORMALIZE_BEFORE: "before",
    NormalizationType.NORMALIZE_AFTER: "after",
    NormalizationType.NORMALIZE_SYMMETRIC: "symmetric",
}


class PairwiseTerm:
    """Messages P(Q) = mu · (after · K · before) Q of one kernel; immutable, so models and threads may share it.

    Args:
        features: returns float32 (d, N) features; called again when the term is unpickled, which is cheaper than
            storing the lattice.
        mu: label compatibility, float32 (L,) diagonal or (L, L) symmetric.
        normalization: a value of :class:`NormalizationType`; any other int means none.

    Attributes:
        lattice: K, with the phantom points that pad N to a multiple of four: they decide the original's numbers.
        before, after: float32 (N,), the normalisation's factors on either side of K.
        mu: as given.
    """

    def __init__(self, features: Callable[[], np.ndarray], mu: np.ndarray, normalization: int) -> None:
        self._features = features
        self._normalization = normalization
        self.mu = mu
        self.lattice = PermutohedralLattice(features(), phantom=True)
        sums = self.lattice.filter(np.ones((1, self.lattice.size), np.float32))[0]
        self.before, self.after = factors(sums, _NAMES.get(normalization, "none"))

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
