"""One pairwise term: features in a lattice, a normalisation, and a label compatibility."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from crispmask.crf.lattice import PermutohedralLattice
from crispmask.pydensecrf.kinds import NormalizationType


class PairwiseTerm:
    """Messages mu · (after · K · before) Q of one kernel, immutable and thus safe to share between models and threads.

    Args:
        features: returns float32 (d, N) features; called again when the term is unpickled, which is cheaper than
            storing the lattice.
        mu: label compatibility, float32 (L,) diagonal or (L, L) symmetric.
        normalization: a value of :class:`NormalizationType`; any other int means none.

    Attributes:
        before, after: float32 (N,) factors on either side of K, or None for ones.
    """

    def __init__(self, features: Callable[[], np.ndarray], mu: np.ndarray, normalization: int) -> None:
        self._features = features
        self._normalization = normalization
        self.mu = mu
        # With the phantom points that pad N to a multiple of four in the original: they decide its numbers.
        self._lattice = PermutohedralLattice(features(), phantom=True)
        self.before: np.ndarray | None = None
        self.after: np.ndarray | None = None
        kind = NormalizationType
        if normalization in (kind.NORMALIZE_BEFORE, kind.NORMALIZE_AFTER, kind.NORMALIZE_SYMMETRIC):
            k = self._lattice.filter(np.ones((1, self._lattice.size), np.float32))[0] + np.float32(1e-20)
            factor = 1 / (np.sqrt(k) if normalization == kind.NORMALIZE_SYMMETRIC else k)
            self.before = factor if normalization != kind.NORMALIZE_AFTER else None
            self.after = factor if normalization != kind.NORMALIZE_BEFORE else None

    def __reduce__(self) -> tuple[Any, ...]:
        return PairwiseTerm, (self._features, self.mu, self._normalization)

    def __deepcopy__(self, memo: dict[int, Any]) -> PairwiseTerm:
        return self

    def filter(self, values: np.ndarray) -> np.ndarray:
        """K applied to float32 (C, N) values, in place."""
        return self._lattice.filter(values, out=values)

    def messages(self, q: np.ndarray) -> np.ndarray:
        """P(Q)[a, i] = Σ_b mu(a, b) · (after · K · before Q)[b, i], float32 (L, N) from float32 (L, N)."""
        values = q.copy() if self.before is None else q * self.before
        self.filter(values)
        if self.after is not None:
            values *= self.after
        if self.mu.ndim == 2:
            return self.mu @ values
        values *= self.mu[:, np.newaxis]
        return values

    def difference(self, q: np.ndarray) -> np.ndarray:
        """P(Q)[1] - P(Q)[0] for two labels, float32 (N,) from float32 (2, N): one channel, P being linear in Q."""
        mu = self.mu if self.mu.ndim == 2 else np.diag(self.mu)
        values = (mu[1, 0] - mu[0, 0]) * q[0] + (mu[1, 1] - mu[0, 1]) * q[1]
        if self.before is not None:
            values *= self.before
        self.filter(values[np.newaxis])
        if self.after is not None:
            values *= self.after
        return values
