"""The same inference by brute force, in float64, with the full kernel matrix: the reference for the tests.

Time and memory grow with the square of the number of points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.crf.dense import CRFResult, DenseCRF
from crispmask.crf.kernels import Gaussian, Kernel
from crispmask.crf.normalization import Normalization, factors
from crispmask.crf.tensors import host

# Rows of the kernel matrix made at a time.
_CHUNK = 1024


def kernel_matrix(features: ArrayLike) -> NDArray[np.float64]:
    """exp(-|f_i - f_j|²/2) for all pairs.

    Args:
        features: (d, N), already divided by the bandwidths.

    Returns:
        float64 (N, N).
    """
    points = np.asarray(features, np.float64).T
    matrix = np.empty((len(points), len(points)))
    for start in range(0, len(points), _CHUNK):
        rows = points[start : start + _CHUNK]
        distance = sum((rows[:, None, j] - points[None, :, j]) ** 2 for j in range(points.shape[1]))
        np.exp(-0.5 * np.asarray(distance), out=matrix[start : start + _CHUNK])
    return matrix


def message_matrix(kernel: Kernel | Gaussian, grid: tuple[int, ...]) -> NDArray[np.float64]:
    """The matrix M of a kernel's message M @ q, with weight, normalisation, self term and counts: float64 (N, N)."""
    matrix = kernel_matrix(kernel.features(grid))
    if isinstance(kernel, Kernel) and kernel.among is not None:
        counts = kernel.among.spread(kernel.among.counts)
        matrix *= np.where(counts[:, None] > 0, counts, 0)  # who has no count gets no message either
    matrix = normalized(matrix, kernel.normalization) * kernel.weight
    if not kernel.self_term:
        np.fill_diagonal(matrix, 0)
    return matrix


def normalized(matrix: NDArray[np.float64], normalization: Normalization) -> NDArray[np.float64]:
    """A kernel matrix, normalised as `crispmask.crf.Kernel` says."""
    pre, post = factors(matrix.sum(axis=1), normalization)
    return matrix * post[:, None] * pre


def run(crf: DenseCRF, iterations: int = 10, *, track: bool = False, sequential: bool = False) -> CRFResult:
    """`DenseCRF.run` with exact messages.

    Args:
        crf: a CRF on at most some ten thousand points.
        iterations: at least 0.
        track: as for `DenseCRF.run`.
        sequential: update one point after the other, each from the newest marginals of the others. Without self terms
            and with symmetric kernels this is coordinate descent, in which the KL divergence cannot rise.

    Returns:
        `CRFResult`; the marginals are rounded to float32 at the end.
    """
    unary = host(crf.unary).astype(np.float64)
    matrix = sum((message_matrix(k, crf.grid) for k in crf.kernels), np.zeros((unary.shape[1],) * 2))
    penalty = 1 - np.eye(len(unary)) if crf.penalty is None else crf.penalty.astype(np.float64)
    own = np.diag(matrix).copy()

    def objective(p: NDArray[np.float64]) -> tuple[float, float]:
        """KL(Q‖P) - log Z, and the energy of the likeliest labels; both sum over pairs of different points."""

        def expected(r: NDArray[np.float64]) -> float:
            return float((r * unary).sum() + 0.5 * (r * (penalty @ (r @ matrix.T - own * r))).sum())

        return expected(p) + float((p * np.log(np.maximum(p, 1e-300))).sum()), expected(np.eye(len(p))[:, p.argmax(0)])

    q = _softmax(-unary)
    history = [objective(q)] if track else []
    for _ in range(iterations):
        if sequential:
            for i in range(unary.shape[1]):
                q[:, i] = _softmax(-unary[:, i] - penalty @ (q @ matrix[i]))
        else:
            q = _softmax(-unary - penalty @ (q @ matrix.T))
        if track:
            history.append(objective(q))
    marginals = q.astype(np.float32).reshape(crf.shape)
    return CRFResult(marginals, *np.array(history).T) if track else CRFResult(marginals)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max(axis=0))
    return e / e.sum(axis=0)
