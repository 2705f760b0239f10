"""Unaries from labels and probabilities, and pairwise features of any dimension; NumPy only.

Every function returns float32 and does not change its arguments. Where the original has assertions, an `AssertionError`
is raised, because existing code may catch it; here also under ``python -O``. What is no array where there must be one
is an `AttributeError` and a number beyond double precision an `OverflowError`, as in the original.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np

__all__ = [
    "compute_unary",
    "create_pairwise_bilateral",
    "create_pairwise_gaussian",
    "softmax_to_unary",
    "unary_from_labels",
    "unary_from_softmax",
]


def unary_from_labels(labels: np.ndarray, n_labels: int, gt_prob: float, zero_unsure: bool = True) -> np.ndarray:
    """Energies of a hard labelling that is right with probability `gt_prob`.

    Args:
        labels: integers, any shape. With `zero_unsure` 1..n_labels, and 0 means unknown; else 0..n_labels-1.
            Negative labels count from the end.
        n_labels: number of labels, at least 2 (0 as a value of `labels` is not counted).
        gt_prob: probability of the given label, in (0, 1); the others share the rest.
        zero_unsure: whether 0 stands for unknown, all labels being equally likely there.

    Returns:
        float32 (n_labels, labels.size).

    Raises:
        AssertionError: `gt_prob` outside (0, 1).
        IndexError: a label above the range, or labels that are not integers.
        ZeroDivisionError: `n_labels` is 1.
    """
    if not 0 < gt_prob < 1:
        raise AssertionError(f"gt_prob must lie strictly between 0 and 1, got {gt_prob}")
    labels = labels.ravel()
    if labels.dtype.kind == "u":  # so that 0 - 1 is -1 and not 255
        labels = labels.astype(np.int64)
    u = np.full((n_labels, labels.size), -np.log((1.0 - gt_prob) / (n_labels - 1)), np.float32)
    u[labels - 1 if zero_unsure else labels, np.arange(labels.size)] = -np.log(gt_prob)
    if zero_unsure:
        u[:, labels == 0] = -np.log(1.0 / n_labels)
    return u


def unary_from_softmax(sm: np.ndarray, scale: float | None = None, clip: float | None = 1e-5) -> np.ndarray:
    """Energies -log p of label probabilities.

    Args:
        sm: probabilities, (L, ...), label axis first, any float dtype.
        scale: confidence in them, in (0, 1]: p becomes scale * p + (1 - scale) / L. None: 1.
        clip: lower bound of p (1 is the upper one). None: no bounds, and p = 0 gives infinity.

    Returns:
        float32 (L, product of the other axes), computed in the precision of `sm` and in its memory order
        (double and C order with `scale`).

    Raises:
        AssertionError: `scale` outside (0, 1].
    """
    n_labels = sm.shape[0]
    if scale is not None:
        if not 0 < scale <= 1:
            raise AssertionError(f"scale must lie in (0, 1], got {scale}")
        sm = scale * sm + np.full(sm.shape, (1.0 - scale) / n_labels)  # C order, double: both reach the result
    if clip is not None:
        sm = np.clip(sm, clip, 1.0)
    return (-np.log(sm)).reshape(n_labels, -1).astype(np.float32)


def create_pairwise_gaussian(sdims: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Position features of a grid of any dimension, for `addPairwiseEnergy`.

    Args:
        sdims: standard deviation along each axis in grid steps, in **array order**: (sy, sx) for an image, the
            reverse of the `sxy` of `DenseCRF2D.addPairwiseGaussian`.
        shape: size of the grid along each axis, (h, w) for an image.

    Returns:
        float32 (len(shape), prod(shape)), row i the coordinate along axis i divided by sdims[i].

    Raises:
        TypeError: `sdims` is a number; write (s, s).
        IndexError: more `sdims` than axes.
    """
    return _grid(sdims, shape).reshape(len(sdims), -1)


def create_pairwise_bilateral(
    sdims: Sequence[float], schan: float | Sequence[float], img: np.ndarray, chdim: int = -1
) -> np.ndarray:
    """Position and value features of an image of any dimension and number of channels, for `addPairwiseEnergy`.

    Args:
        sdims: standard deviation along each axis in pixels, in array order; missing ones leave the row undivided.
        schan: standard deviation of the channels in units of `img`, one for all or one each.
        img: any shape, any real dtype.
        chdim: the channel axis. **-1 means that there is none**; for a last axis pass its number.

    Returns:
        float32 (axes + channels, pixels): coordinates in array order, then channels.

    Raises:
        IndexError: more `sdims` or `schan` than there are rows.
    """
    channels = img[np.newaxis] if chdim == -1 else np.moveaxis(img, chdim, 0)
    values = channels.astype(np.float32)
    if isinstance(schan, Number):
        values /= schan
    else:
        _divide_rows(values, schan)
    grid = _grid(sdims, values.shape[1:])
    return np.concatenate([grid, values]).reshape(len(grid) + len(values), -1)


def compute_unary(labels: np.ndarray, M: int, GT_PROB: float = 0.5) -> np.ndarray:
    """Deprecated name of `unary_from_labels(labels, M, GT_PROB)`."""
    logging.warning("compute_unary is deprecated, use unary_from_labels instead.")
    return unary_from_labels(labels, M, GT_PROB)


def softmax_to_unary(sm: np.ndarray, GT_PROB: float = 1) -> np.ndarray:
    """Deprecated name of `unary_from_softmax(sm, GT_PROB, clip=None)`."""
    logging.warning("softmax_to_unary is deprecated, use unary_from_softmax instead.")
    return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB, clip=None)


def _grid(sdims: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Coordinates, float32 (len(shape), *shape), the first len(sdims) rows divided."""
    grid = np.indices(tuple(shape), dtype=np.float32)
    _divide_rows(grid, sdims)
    return grid


def _divide_rows(rows: np.ndarray, divisors: Any) -> None:
    for i, divisor in enumerate(divisors):
        rows[i] /= divisor
