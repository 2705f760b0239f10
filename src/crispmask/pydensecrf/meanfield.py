"""Mean field inference as the original does it: float32, simultaneous updates, no damping, no clipping.

Q <- softmax(-U - Σ_k P_k(Q)). With two labels only the difference of the two exponents matters, and it is linear in
Q, so that one channel is filtered instead of two, for every compatibility and any (also unnormalised) Q.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from crispmask.pydensecrf.eigen import MatrixXf
from crispmask.pydensecrf.pairwise import PairwiseTerm


def infer(
    energies: np.ndarray | None, terms: tuple[PairwiseTerm, ...], n_labels: int, size: int, n_iterations: int
) -> MatrixXf:
    """Marginals after `n_iterations` updates from softmax(-U), float32 (L, N) column-major.

    Args:
        energies: float32 (L, N), or None for zeros.
        terms: the pairwise terms.
        n_labels: L.
        size: N.
        n_iterations: 0 or less makes no update.
    """
    q = np.empty((n_labels, size), np.float32)
    _update(energies, (), q)
    for _ in range(n_iterations):
        _update(energies, terms, q)
    return np.asfortranarray(q).view(MatrixXf)


def step(energies: np.ndarray | None, terms: tuple[PairwiseTerm, ...], q: np.ndarray) -> None:
    """One update of float32 (L, N) `q` in place, whatever its memory layout."""
    rows = np.ascontiguousarray(q)
    _update(energies, terms, rows)
    q[...] = rows


def divergence(energies: np.ndarray | None, terms: tuple[PairwiseTerm, ...], q: np.ndarray) -> float:
    """Σ Q log(max(Q, 1e-20)) + Σ U Q + Σ_k Σ Q P_k(Q) in double precision."""
    rows = np.ascontiguousarray(q)
    wide = rows.astype(np.float64)
    total = np.sum(wide * np.log(np.maximum(wide, 1e-20)))
    if energies is not None:
        total += np.sum(energies * wide)
    for term in terms:
        total += np.sum(wide * term.messages(rows))
    return float(total)


def _update(energies: np.ndarray | None, terms: Iterable[PairwiseTerm], q: np.ndarray) -> None:
    """Overwrite C-contiguous float32 (L, N) `q` with softmax(-energies - Σ_k P_k(q))."""
    if len(q) == 2:
        _update_two(energies, terms, q)
        return
    exponents = np.zeros_like(q) if energies is None else -energies
    for term in terms:
        exponents -= term.messages(q)
    exponents -= exponents.max(axis=0)
    np.exp(exponents, out=q)
    q /= q.sum(axis=0)


def _update_two(energies: np.ndarray | None, terms: Iterable[PairwiseTerm], q: np.ndarray) -> None:
    """The same for two labels, by the difference of the exponents."""
    difference = np.zeros(q.shape[1], np.float32) if energies is None else energies[1] - energies[0]
    for term in terms:
        difference += term.difference(q)
    # exp of minus the magnitude never overflows, and both probabilities keep their relative precision.
    small = np.exp(-np.abs(difference))
    large = 1 / (1 + small)
    small *= large
    first = difference >= 0
    q[0] = np.where(first, large, small)
    q[1] = np.where(first, small, large)
