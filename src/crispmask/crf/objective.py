"""The divergence KL(Q‖P) up to log Z, which mean field minimises, and the energy of a labelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.crf.messages import Message


class Objective:
    """KL(Q‖P) - log Z = Σ Q log Q + Σ Q ψ + Σ_{i<j} Σ_ab μ(a, b) k_ij Q_i(a) Q_j(b), sums in float64.

    The sum is over pairs of different pixels, whether or not the updates keep the self term. For a kernel that is not
    symmetric ("before", "after", and slightly the lattice) it has the mean of k_ij and k_ji.
    """

    def __init__(
        self, unary: NDArray[np.float32], messages: Sequence[Message], penalty: NDArray[np.float32] | None
    ) -> None:
        """For a CRF with float32 energies (L, N) and float32 `penalty` (L, L), or None for Potts."""
        self._unary = unary
        self._messages = messages
        count = len(unary)
        self._penalty = 1 - np.eye(count, dtype=np.float32) if penalty is None else penalty
        self._kl: list[float] = []
        self._energy: list[float] = []

    def record(self, marginals: NDArray[np.float32]) -> None:
        """Append the divergence of marginals, float32 (L, N), and the energy of their likeliest labels."""
        self._kl.append(self.kl(marginals))
        self._energy.append(self.energy(marginals.argmax(axis=0)))

    def history(self) -> dict[str, Any]:
        """The recorded ``kl`` and ``energy``, float64 arrays."""
        return {"kl": np.array(self._kl), "energy": np.array(self._energy)}

    def kl(self, marginals: NDArray[np.float32]) -> float:
        """The divergence of float32 (L, N) marginals."""
        q = marginals.astype(np.float64)
        entropy = -float((q * np.log(np.maximum(q, 1e-300))).sum())
        return self._expected_energy(marginals) - entropy

    def energy(self, labels: NDArray[np.int64]) -> float:
        """The energy of int64 (N,) labels."""
        certain = np.zeros(self._unary.shape, np.float32)
        np.put_along_axis(certain, labels[None], 1, axis=0)
        return self._expected_energy(certain)

    def _expected_energy(self, q: NDArray[np.float32]) -> float:
        expected = float(np.vdot(q.astype(np.float64), self._unary))
        for message in self._messages:
            received = message.apply(q).astype(np.float64)
            if message.self_term:
                received -= message.own * q
            expected += 0.5 * float(np.vdot(self._penalty @ received, q))
        return expected
