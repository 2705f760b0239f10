"""Unary energies from what people have: labels, or a network's probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.arguments import number, whole
from crispmask.crf.tensors import host, numbers, on_gpu
from crispmask.errors import ShapeError, ValueRangeError

_PROBABILITY_FLOOR = 1e-5


def unary_from_probabilities(probabilities: Any, *, floor: float = _PROBABILITY_FLOOR) -> Any:
    """-log p, with probabilities below `floor` raised to it.

    Args:
        probabilities: float (L, ...) in [0, 1], a softmax; an array or a tensor. Two labels may be given as one map
            (...) of the foreground by ``np.stack([1 - p, p])``.
        floor: above 0 and at most 1.

    Returns:
        float32 (L, ...), a tensor where the probabilities are one that is not on the CPU.

    Raises:
        ShapeError: fewer than two axes.
        ValueRangeError: numbers that are no probabilities, a bad floor.
    """
    if not 0 < floor <= 1:
        raise ValueRangeError(f"floor must be above 0 and at most 1, got {floor!r}")
    p = numbers(probabilities, "the probabilities")
    if p.ndim < 2 or 0 in p.shape:
        raise ShapeError(f"the probabilities must have shape (L, H, W) or (L, ...), got {tuple(p.shape)}")
    if p.min() < 0 or p.max() > 1 + 1e-4:
        raise ValueRangeError("probabilities must be from 0 to 1; apply a softmax to a network's logits first")
    return -(p.clip(floor, 1).log() if on_gpu(p) else np.log(p.clip(floor, 1)))


MAX_LABELS = 1 << 16
"""Most labels; data sets have hundreds."""


def unary_from_labels(
    labels: ArrayLike, count: int, *, confidence: float = 0.7, unknown: int | None = None
) -> NDArray[np.float32]:
    """-log of a probability of `confidence` for each pixel's label, the rest being shared by all others.

    Args:
        labels: int (...), from 0 to count - 1.
        count: L, from 2 to `MAX_LABELS`.
        confidence: how sure the labels are, above 0 and below 1; 1 / L says nothing.
        unknown: the value of pixels without a label, such as 255, which get the same energy for all labels.

    Returns:
        float32 (L, ...).

    Raises:
        ValueRangeError: values that are not labels, a bad count or confidence.
    """
    array = host(labels)
    count, confidence = whole(count, "count", 2, MAX_LABELS), number(confidence, "confidence", 0, 1)
    if confidence in (0, 1):
        raise ValueRangeError(f"confidence must lie between 0 and 1, got {confidence}")
    if array.dtype.kind not in "iub" or array.size == 0:
        raise ValueRangeError(f"labels must be whole numbers, at least one, got {array.dtype} {array.shape}")
    missing = np.zeros(array.shape, bool) if unknown is None else array == whole(unknown, "unknown", -(2**63))
    known = array[~missing]
    if known.size and (known.min() < 0 or known.max() >= count):
        raise ValueRangeError(f"labels must be from 0 to {count - 1}, found {known.min()} to {known.max()}")
    energies = np.full((count, *array.shape), -np.log((1 - confidence) / (count - 1)), np.float32)
    index = np.where(missing, 0, array).astype(np.int64)[None]
    np.put_along_axis(energies, index, np.float32(-np.log(confidence)), axis=0)
    energies[:, missing] = np.log(count)
    return energies
