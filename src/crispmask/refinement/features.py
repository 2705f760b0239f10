"""What an instance looks like to the rules that choose its parameters: a few numbers from its window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crispmask.refinement.colour import rgb_to_lab

FEATURES = (
    "size",  # log2 of the square root of the box area, pixels
    "score",  # the detector's
    "binary",  # 1 where the mask came without probabilities, else 0
    "entropy",  # of the mask, bits per pixel of its area
    "undecided",  # pixels with probabilities from 0.1 to 0.9, per pixel of its area
    "softness",  # width of the mask's edge, as a share of its size
    "doubt",  # log10 of the median distance of its probabilities from 0 or 1: mask heads never are quite sure
    "contrast",  # CIELAB distance of the mean colours a little inside and outside of the edge, median over the edge
    "change",  # 1 - IoU of the mask and the unary network's
    "depth",  # cells in which they differ, per cell of the mask's edge
    "expected",  # IoU that the network's mask may have, if its probabilities are right
    "gain",  # by how much that is more than the mask's
    "steepness",  # undecided pixels of the network's, per pixel of its area
)
_AROUND = 7  # cells of the window's grid over which colours beside the edge are averaged


def instance_features(
    image: NDArray[np.float32],
    mask: NDArray[np.float32],
    better: NDArray[np.float32] | None,
    *,
    scale: float,
    score: float,
    binary: bool,
) -> NDArray[np.float32]:
    """The numbers of `FEATURES`, float32 (F,).

    Args:
        image: float32 or uint8 (S, S, 3) RGB in 0..255, the window on a small grid.
        mask: float32 (S, S) in [0, 1], the mask there.
        better: the same, of the unary network; None where there is none, which makes its features zero.
        scale: square root of the box area, pixels of the photo.
        score: of the detector, in [0, 1].
        binary: whether the mask came without probabilities.
    """
    inside = mask > 0.5
    area = max(1.0, float(inside.sum()))
    p = np.clip(mask, 1e-3, 1 - 1e-3)
    entropy = float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum()) / area
    values = [
        np.log2(max(1.0, scale)),
        score,
        float(binary),
        entropy,
        float(((mask > 0.1) & (mask < 0.9)).sum()) / area,
        float((mask * (1 - mask)).sum()) / area,
        float(np.log10(max(1e-4, float(np.median(np.minimum(mask, 1 - mask)))))),
    ]
    edge = _edge(inside)
    values.append(_contrast(image, inside, edge))
    if better is None:
        return np.array([*values, 0, 0, 0, 0, 0], np.float32)
    chosen = better > 0.5
    union = float((inside | chosen).sum())
    change = 1 - float((inside & chosen).sum()) / union if union else 0.0
    expected = _expected_iou(chosen, better)
    steepness = float(((better > 0.1) & (better < 0.9)).sum()) / max(1.0, float(chosen.sum()))
    depth = float((inside != chosen).sum()) / max(1.0, float(edge.sum()))
    return np.array([*values, change, depth, expected, expected - _expected_iou(inside, better), steepness], np.float32)


def _expected_iou(mask: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> float:
    """Expected overlap over expected union of a mask, if its pixels are right with these probabilities."""
    inside = float(probabilities[mask].sum())
    union = float(mask.sum()) + float(probabilities[~mask].sum())
    return inside / union if union else 0.0


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells whose right or lower neighbour lies on the other side."""
    edge = np.zeros_like(inside)
    edge[:, :-1] |= inside[:, :-1] != inside[:, 1:]
    edge[:-1] |= inside[:-1] != inside[1:]
    return edge


def _contrast(image: NDArray[np.float32], inside: NDArray[np.bool_], edge: NDArray[np.bool_]) -> float:
    """Median over the edge of the distance between the mean colours of its two sides nearby."""
    from scipy.ndimage import uniform_filter

    if not edge.any():
        return 0.0
    lab = rgb_to_lab(np.asarray(image, np.uint8)).astype(np.float32)
    share = uniform_filter(inside.astype(np.float32), _AROUND)[edge]
    sums = np.stack([uniform_filter(lab[..., k] * inside, _AROUND)[edge] for k in range(3)], -1)
    means = np.stack([uniform_filter(lab[..., k], _AROUND)[edge] for k in range(3)], -1)
    sides = sums / np.maximum(share, 1e-3)[:, None], (means - sums) / np.maximum(1 - share, 1e-3)[:, None]
    return float(np.median(np.linalg.norm(sides[0] - sides[1], axis=-1)))
