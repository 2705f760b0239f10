"""Mean field inference as the original does it: float32, simultaneous updates, no damping.

Q <- softmax(-U - Σ_k P_k(Q)). A sweep processes the variables in blocks. For each block it reads the messages from the
lattices, updates Q, and splats it into the lattices. So exponents are stored for one block at a time, and messages are
not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from crispmask.crf import _lattice_filters
from crispmask.crf._lanes import shape_of
from crispmask.pydensecrf import _kernels
from crispmask.pydensecrf.eigen import MatrixXf
from crispmask.pydensecrf.pairwise import PairwiseTerm

# Variables per block. From 2^13 to 2^16, a sweep takes the same time within 12 % (2, 5 and 21 labels, 640 x 480).
_BLOCK = 1 << 15


def infer(
    energies: np.ndarray | None, terms: Sequence[PairwiseTerm], n_labels: int, size: int, n_iterations: int
) -> MatrixXf:
    """Marginals after `n_iterations` updates from softmax(-U), float32 (L, N) column-major.

    Args:
        energies: float32 (L, N), or None for zeros.
        terms: the pairwise terms.
        n_labels: L.
        size: N.
        n_iterations: 0 or less makes no update.
    """
    rows = np.empty((size, n_labels), np.float32)
    plan = _plan(energies, terms, rows)
    for i in range(max(0, n_iterations) + 1):
        plan.sweep(read=i > 0, update=True, write=i < n_iterations)
    if plan.state is not rows:
        rows[:] = plan.state[:, :n_labels]
    return rows.T.view(MatrixXf)


def step(energies: np.ndarray | None, terms: Sequence[PairwiseTerm], q: np.ndarray) -> None:
    """One update of float32 (L, N) `q` in place, whatever its memory layout."""
    rows = np.ascontiguousarray(q.T)  # the caller's own memory, unless they changed its layout
    plan = _plan(energies, terms, rows)
    if plan.state is not rows:
        plan.state[:, : len(q)] = rows
    plan.sweep(read=False, update=False, write=True)
    plan.sweep(read=True, update=True, write=False)
    if not np.shares_memory(plan.state, q):
        q[...] = plan.state[:, : len(q)].T


def divergence(energies: np.ndarray | None, terms: Sequence[PairwiseTerm], q: np.ndarray) -> float:
    """Σ Q log(max(Q, 1e-20)) + Σ U Q + Σ_k Σ Q P_k(Q) in double precision, for float32 (L, N) `q`."""
    rows = np.ascontiguousarray(q)
    wide = rows.astype(np.float64)
    total = np.sum(wide * np.log(np.maximum(wide, 1e-20)))
    if energies is not None:
        total += np.sum(energies * wide)
    for term in terms:
        total += np.sum(wide * term.messages(rows))
    return float(total)


class _Field:
    """A term during inference: the values of its lattice for all labels, and those for the next update.

    Args:
        term: the term.
        width: labels per variable in memory, 2 or a multiple of the lanes.
    """

    def __init__(self, term: PairwiseTerm, width: int) -> None:
        lattice = term.lattice
        kernels = _kernels.make(lattice.dimension + 1)
        self._gather, self._splat = (
            (kernels.gather_two, kernels.splat_two) if width == 2 else (kernels.gather, kernels.splat)
        )
        self._simplices = (lattice.corners, lattice.weights)
        self._before, self._after, self._alpha = term.before, term.after, lattice.alpha
        mu = np.diag(term.mu) if width == 2 and term.mu.ndim == 1 else np.atleast_2d(term.mu)
        self._mu = np.zeros((1 if len(mu) == 1 else width, width), np.float32)
        self._mu[: len(mu), : mu.shape[1]] = mu
        self._around = lattice.around
        self._blur = (
            _lattice_filters.blur(2) if width == 2 else partial(_lattice_filters.blur_lanes(shape_of(width)[0]), width)
        )
        self._old, self._new = np.empty((2, lattice.vertices + 1, width), np.float32)

    def clear(self) -> None:
        """Set the values for the next update to zero."""
        self._new.fill(0)

    def read(self, start: int, x: np.ndarray) -> None:
        """Subtract the messages from the exponents `x` of the variables from `start` on."""
        self._gather(self._old, self._mu, *self._simplices, self._alpha, self._after, start, x)

    def spread(self, state: np.ndarray, start: int, stop: int) -> None:
        """Splat the marginals of the variables from `start` to `stop` into the values for the next update."""
        self._splat(state, *self._simplices, self._before, start, stop, self._new)

    def blur(self) -> None:
        """Blur the values for the next update, which become the current ones."""
        old, new = self._old, self._new
        self._blur(new.reshape(-1), old.reshape(-1), self._around, 0, self._around.shape[1])
        if len(self._around) % 2 == 0:  # the result is in the array that was blurred
            self._old, self._new = new, old


@dataclass
class _Plan:
    """An inference: exponents without messages `base` and marginals `state`, variable by variable, and the terms."""

    base: np.ndarray
    state: np.ndarray
    fields: Sequence[_Field]
    normalise: Callable[..., Any]

    def sweep(self, *, read: bool, update: bool, write: bool) -> None:
        """Process all variables once: read the messages, update the marginals, splat and blur them."""
        fields = self.fields
        if write:
            for field in fields:
                field.clear()
        n = len(self.state)
        for start in range(0, n, _BLOCK):
            stop = min(n, start + _BLOCK)
            if update:
                x = self.base[start:stop].copy()
                if read:
                    for field in fields:
                        field.read(start, x)
                self.normalise(x, self.state, start)
            if write:
                for field in fields:
                    field.spread(self.state, start, stop)
        if write:
            for field in fields:
                field.blur()


def _plan(energies: np.ndarray | None, terms: Sequence[PairwiseTerm], rows: np.ndarray) -> _Plan:
    """How to update the marginals `rows`, C-contiguous float32 (N, L)."""
    n, n_labels = rows.shape
    width = 2 if n_labels == 2 else shape_of(n_labels)[1]
    base = np.full((n, width), -np.inf, np.float32)
    base[:, :n_labels] = 0 if energies is None else -energies.T
    fields = [_Field(term, width) for term in terms]
    if width == 2:
        return _Plan(base, rows, fields, _kernels.normalise_two)
    return _Plan(base, np.zeros((n, width), np.float32), fields, _kernels.normalise)
