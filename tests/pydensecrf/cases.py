"""The cases that both the original package and the drop-in are run on; `record.py` stores the original's answers."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

NORMALIZATIONS = ("NO_NORMALIZATION", "NORMALIZE_BEFORE", "NORMALIZE_AFTER", "NORMALIZE_SYMMETRIC")
COMPATIBILITIES = ("potts", "diagonal", "matrix")

# (h, w): one pixel, lines, N % 4 of 0, 1, 2 and 3.
SIZES = ((1, 1), (1, 7), (9, 1), (5, 3), (16, 16), (17, 23), (14, 13), (31, 33))
LABELS = (1, 2, 5, 21)
DIMENSIONS = (1, 2, 3, 4, 5, 6, 7)

# Small enough for the repository, and between them every label count, compatibility and normalisation.
RECORDED_GRID = (
    (1, 1, 2, "potts", "NORMALIZE_SYMMETRIC"),
    (5, 3, 1, "potts", "NORMALIZE_AFTER"),
    (17, 23, 2, "potts", "NO_NORMALIZATION"),
    (17, 23, 2, "diagonal", "NORMALIZE_BEFORE"),
    (16, 16, 2, "matrix", "NORMALIZE_SYMMETRIC"),
    (14, 13, 5, "potts", "NORMALIZE_SYMMETRIC"),
    (14, 13, 5, "matrix", "NORMALIZE_AFTER"),
    (9, 1, 21, "diagonal", "NORMALIZE_SYMMETRIC"),
)
RECORDED_FEATURES = tuple((d, 101, "NORMALIZE_SYMMETRIC") for d in DIMENSIONS)


def compatibility(kind: str, n_labels: int, rng: np.random.Generator) -> Any:
    if kind == "potts":
        return 3
    if kind == "diagonal":  # mixed signs: some labels attract and some repel
        return rng.normal(-1, 2, n_labels).astype(np.float32)
    return rng.normal(0, 1.5, (n_labels, n_labels)).astype(np.float32)


def grid(dcrf: ModuleType, h: int, w: int, n_labels: int, compat: str, normalization: str, iterations: int = 5) -> Any:
    """Noise in, so that phantom points, ties and every row of the compatibility matter: marginals (L, h * w)."""
    rng = np.random.default_rng([h, w, n_labels])
    image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    crf = dcrf.DenseCRF2D(w, h, n_labels)
    crf.setUnaryEnergy(rng.normal(0, 1.5, (n_labels, h * w)).astype(np.float32))
    mu = compatibility(compat, n_labels, rng)
    kind = getattr(dcrf, normalization)
    crf.addPairwiseGaussian(sxy=3, compat=mu, normalization=kind)
    crf.addPairwiseBilateral(sxy=(20, 31), srgb=(13, 20, 47), rgbim=image, compat=mu, normalization=kind)
    return np.array(crf.inference(iterations))


def features(dcrf: ModuleType, d: int, size: int, normalization: str) -> Any:
    """A term over features of `d` dimensions: marginals (3, size)."""
    rng = np.random.default_rng([d, size])
    crf = dcrf.DenseCRF(size, 3)
    crf.setUnaryEnergy(rng.normal(size=(3, size)).astype(np.float32))
    crf.addPairwiseEnergy(
        rng.normal(0, 1.5, (d, size)).astype(np.float32), 2.5, normalization=getattr(dcrf, normalization)
    )
    return np.array(crf.inference(6))


def photo(dcrf: ModuleType, image: np.ndarray, n_labels: int, normalization: str, compat: float = 8) -> Any:
    """A noisy labelling of a photo by brightness, cleaned: marginals (L, h * w)."""
    h, w = image.shape[:2]
    rng = np.random.default_rng(n_labels)
    brightness = image.mean(axis=2).ravel() / 255
    centres = (np.arange(n_labels) + 0.5) / n_labels
    logits = -((brightness - centres[:, np.newaxis]) ** 2) * 20 + rng.normal(0, 0.7, (n_labels, h * w))
    p = np.exp(logits) / np.exp(logits).sum(axis=0)
    crf = dcrf.DenseCRF2D(w, h, n_labels)
    crf.setUnaryEnergy(-np.log(p).astype(np.float32))
    kind = getattr(dcrf, normalization)
    crf.addPairwiseGaussian(sxy=3, compat=3, normalization=kind)
    crf.addPairwiseBilateral(sxy=60, srgb=10, rgbim=image, compat=compat, normalization=kind)
    return np.array(crf.inference(10))


def divergences(dcrf: ModuleType) -> np.ndarray:
    """`klDivergence` along ten steps, with and without a unary: (2, 11)."""
    rng = np.random.default_rng(7)
    rows = []
    for unary in (True, False):
        crf = dcrf.DenseCRF2D(11, 13, 4)
        if unary:
            crf.setUnaryEnergy(rng.normal(size=(4, 143)).astype(np.float32))
        crf.addPairwiseGaussian(sxy=2, compat=2)
        crf.addPairwiseGaussian(sxy=5, compat=-0.5 * np.eye(4, dtype=np.float32), normalization=dcrf.NORMALIZE_BEFORE)
        q, first, second = crf.startInference()
        row = [crf.klDivergence(q)]
        for _ in range(10):
            crf.stepInference(q, first, second)
            row.append(crf.klDivergence(q))
        rows.append(row)
    return np.array(rows)


def recorded(dcrf: ModuleType) -> dict[str, Callable[[], np.ndarray]]:
    """The cases of `recorded.npz` by name."""
    found: dict[str, Callable[[], np.ndarray]] = {"divergences": lambda: divergences(dcrf)}
    for case in RECORDED_GRID:
        found["grid " + " ".join(map(str, case))] = lambda case=case: grid(dcrf, *case)
    for case in RECORDED_FEATURES:
        found["features " + " ".join(map(str, case))] = lambda case=case: features(dcrf, *case)
    return found
