"""The fully connected CRF with pydensecrf's names, signatures and numbers.

P. Krähenbühl and V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011.
Energies are natural-log, matrices are (labels, variables), and images count their pixels row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crispmask.errors import ShapeError
from crispmask.pydensecrf import arguments
from crispmask.pydensecrf.eigen import MatrixXf
from crispmask.pydensecrf.kinds import (
    CONST_KERNEL,
    DIAG_KERNEL,
    FULL_KERNEL,
    NO_NORMALIZATION,
    NORMALIZE_AFTER,
    NORMALIZE_BEFORE,
    NORMALIZE_SYMMETRIC,
    KernelType,
    NormalizationType,
)
from crispmask.pydensecrf.unary import ConstUnary, LogisticUnary, Unary

if TYPE_CHECKING:
    from crispmask.pydensecrf.pairwise import PairwiseTerm

__all__ = [
    "CONST_KERNEL",
    "DIAG_KERNEL",
    "FULL_KERNEL",
    "NORMALIZE_AFTER",
    "NORMALIZE_BEFORE",
    "NORMALIZE_SYMMETRIC",
    "NO_NORMALIZATION",
    "ConstUnary",
    "DenseCRF",
    "DenseCRF2D",
    "KernelType",
    "LogisticUnary",
    "NormalizationType",
    "Unary",
]


class DenseCRF:
    """A CRF over any variables; each pairwise term brings its own features.

    Args:
        nvar: number of variables N.
        nlabels: number of labels L, at least 1.

    Further arguments are ignored, as in the original. Instances can be subclassed, copied and pickled, and any number
    of threads may run inference on one.

    Raises:
        TypeError: arguments missing or not numbers.
        ValueError: N below 0, L below 1, or either above 2^31 - 1.
    """

    def __init__(self, nvar: int, nlabels: int, *_: Any, **__: Any) -> None:
        self._size = arguments.count(nvar, "nvar", 0)
        self._labels = arguments.count(nlabels, "nlabels", 1)
        self._energies: np.ndarray | None = None
        # A tuple, so that a shallow copy does not grow with its original.
        self._terms: tuple[PairwiseTerm, ...] = ()

    def setUnary(self, unary: Unary, /) -> None:
        """Set the unary term, in place of the one before.

        Args:
            unary: its energies must be (L, N). A bare :class:`Unary` means none.

        Raises:
            TypeError: not a :class:`Unary`.
            ValueError: energies of another shape.
        """
        if not isinstance(unary, Unary):
            raise TypeError(f"setUnary takes a Unary, got {type(unary).__name__}; setUnaryEnergy takes an array")
        energies = unary.energies
        if energies is not None:
            self._check_energies(energies)
        self._energies = energies

    def setUnaryEnergy(self, u: Any, f: Any = None) -> None:
        """Set the unary energies, in place of the ones before.

        Args:
            u: float32 (L, N), usually negative log probabilities; copied. Any memory layout and any real dtype.
            f: None, or float32 (N, N), and the energies are u @ f. For weights (L, D) take :class:`LogisticUnary`.

        Raises:
            TypeError: not an array.
            ValueError: another shape, or not real numbers.
        """
        if f is None:
            self.setUnary(ConstUnary(u))
        else:
            weights = arguments.real_array(u, "u", 2)
            self._check_energies(weights)
            self.setUnary(LogisticUnary(weights, f))

    def addPairwiseEnergy(
        self,
        features: Any,
        compat: Any,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a pairwise term over any features.

        Args:
            features: float32 (d, N), d from 1 to 64, already divided by the standard deviations; copied.
            compat: a number w: Potts, equal labels gain w. A float32 vector (L,) v: equal labels a *pay* v[a]. A
                float32 matrix (L, L) m: labels a, b pay (m[a, b] + m[b, a]) / 2.
            kernel: without effect, see :class:`KernelType`.
            normalization: see :class:`NormalizationType`.

        Raises:
            TypeError: an argument of the wrong kind.
            ValueError: a wrong shape or dtype, or numbers that are not finite.
        """
        values = np.array(arguments.real_array(features, "features", 2))
        if values.shape[1] != self._size:
            raise ShapeError(f"Bad shape for pairwise energy (Need (?, {self._size}), got {values.shape})")
        self._add(partial(_given, values), compat, kernel, normalization)

    def inference(self, niter: int, /) -> MatrixXf:
        """Run mean field from scratch; the model does not change.

        Args:
            niter: number of updates; 0 or less gives softmax(-U).

        Returns:
            Q, marginals (L, N), float32 column-major, columns summing to 1.
        """
        from crispmask.pydensecrf import meanfield

        return meanfield.infer(self._energies, self._terms, self._labels, self._size, arguments.integer(niter, "niter"))

    def startInference(self) -> tuple[MatrixXf, MatrixXf, MatrixXf]:
        """What :meth:`stepInference` starts from.

        Returns:
            Q (L, N), softmax(-U), but **all zeros without a unary** (the original's way); and two empty matrices.
        """
        from crispmask.pydensecrf import meanfield

        if self._energies is None:
            start = np.zeros((self._labels, self._size), np.float32, order="F").view(MatrixXf)
        else:
            start = meanfield.infer(self._energies, (), self._labels, self._size, 0)
        return start, MatrixXf(), MatrixXf()

    def stepInference(self, Q: MatrixXf, tmp1: MatrixXf, tmp2: MatrixXf) -> None:
        """Make one mean field update of Q **in place**.

        Args:
            Q: marginals (L, N), from :meth:`startInference` or :func:`crispmask.pydensecrf.eigen.matrixXf`.
            tmp1: not used; the original's scratch space.
            tmp2: likewise.

        Raises:
            TypeError: an argument that is not a :class:`MatrixXf`.
            ValueError: Q of another shape.
        """
        from crispmask.pydensecrf import meanfield

        for name, value in (("Q", Q), ("tmp1", tmp1), ("tmp2", tmp2)):
            _check_matrix(value, name)
        meanfield.step(self._energies, self._terms, self._check_marginals(Q))

    def klDivergence(self, Q: MatrixXf, /) -> float:
        """KL(Q || P) up to the constant log Z, in nats: routinely negative, not always falling.

        Σ Q log Q + Σ U Q + Σ_k Σ Q P_k(Q): as in the original, pairs count twice and each variable with itself.

        Raises:
            TypeError: not a :class:`MatrixXf`.
            ValueError: another shape.
        """
        from crispmask.pydensecrf import meanfield

        _check_matrix(Q, "Q")
        return meanfield.divergence(self._energies, self._terms, self._check_marginals(Q))

    def _add(self, features: Callable[[], np.ndarray], compat: Any, kernel: int, normalization: int) -> None:
        from crispmask.pydensecrf.pairwise import PairwiseTerm

        arguments.integer(kernel, "kernel")
        normalization = arguments.integer(normalization, "normalization")
        mu = arguments.compatibility(compat, self._labels)
        if self._size:
            self._terms = (*self._terms, PairwiseTerm(features, mu, normalization))

    def _check_energies(self, energies: np.ndarray) -> None:
        if energies.shape != (self._labels, self._size):
            raise ShapeError(f"Bad shape for unary energy (Need ({self._labels}, {self._size}), got {energies.shape})")

    def _check_marginals(self, q: MatrixXf) -> np.ndarray:
        """`q` as a plain view."""
        if q.shape != (self._labels, self._size):
            raise ShapeError(f"Bad shape for Q (Need ({self._labels}, {self._size}), got {q.shape})")
        return q.view(np.ndarray)


class DenseCRF2D(DenseCRF):
    """A CRF over the pixels of an image; variable y * w + x is the pixel in column x and row y.

    Args:
        w: width of the image in pixels. **The width comes first.**
        h: height.
        nlabels: number of labels L.

    Raises:
        TypeError, ValueError: as :class:`DenseCRF`.
    """

    def __init__(self, w: int, h: int, nlabels: int, *_: Any, **__: Any) -> None:
        self._width, self._height = arguments.count(w, "w", 0), arguments.count(h, "h", 0)
        super().__init__(arguments.count(self._width * self._height, "w * h", 0), nlabels)

    def addPairwiseGaussian(
        self, sxy: Any, compat: Any, kernel: int = DIAG_KERNEL, normalization: int = NORMALIZE_SYMMETRIC
    ) -> None:
        """Add a term over positions: features (x / sx, y / sy).

        Args:
            sxy: standard deviation in pixels, one number or (sx, sy).
            compat, kernel, normalization: as for :meth:`addPairwiseEnergy`.

        Raises:
            TypeError, IndexError: sxy of the wrong kind, or too short.
            ValueError: a deviation of zero or NaN, or as for :meth:`addPairwiseEnergy`.
        """
        s = arguments.deviations(sxy, "sxy", 2)
        self._add(partial(_positions, self._width, self._height, s), compat, kernel, normalization)

    def addPairwiseBilateral(
        self,
        sxy: Any,
        srgb: Any,
        rgbim: Any,
        compat: Any,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a term over positions and colours: features (x / sx, y / sy, c0 / s0, c1 / s1, c2 / s2).

        Args:
            sxy: standard deviation in pixels, one number or (sx, sy).
            srgb: standard deviation in grey levels, one number or one per channel in stored order.
            rgbim: uint8 (h, w, 3), any memory layout; copied.
            compat, kernel, normalization: as for :meth:`addPairwiseEnergy`.

        Raises:
            TypeError, IndexError: an argument of the wrong kind, or too short.
            ValueError: an image of another shape or dtype, or as for :meth:`addPairwiseGaussian`.
        """
        s = arguments.deviations(sxy, "sxy", 2)
        sc = arguments.deviations(srgb, "srgb", 3)
        image = arguments.image(rgbim, "rgbim", self._height, self._width).copy()
        self._add(partial(_positions_and_colours, image, s, sc), compat, kernel, normalization)


def _check_matrix(value: Any, name: str) -> None:
    if not isinstance(value, MatrixXf):
        raise TypeError(f"{name} must be a MatrixXf, got {type(value).__name__}; eigen.matrixXf makes one")


def _given(features: np.ndarray) -> np.ndarray:
    return features


def _positions(width: int, height: int, s: np.ndarray) -> np.ndarray:
    features = np.empty((2, height, width), np.float32)
    _fill_positions(features, s)
    return features.reshape(2, -1)


def _positions_and_colours(image: np.ndarray, s: np.ndarray, sc: np.ndarray) -> np.ndarray:
    features = np.empty((5, *image.shape[:2]), np.float32)
    _fill_positions(features, s)
    for c in range(3):
        np.divide(image[..., c], sc[c], out=features[2 + c])
    return features.reshape(5, -1)


def _fill_positions(features: np.ndarray, s: np.ndarray) -> None:
    height, width = features.shape[1:]
    with np.errstate(over="ignore"):  # the lattice refuses infinite features in its own words
        features[0] = np.arange(width, dtype=np.float32) / s[0]
        features[1] = (np.arange(height, dtype=np.float32) / s[1])[:, np.newaxis]
