"""Any features: a filter bank, reduced to a few dimensions by PCA, tells textures apart whose grey values are alike.

python examples/deep_features.py -o deep_features.png

Only the spots in the upper third are labelled. Features of a network go the same way: one map per channel at the
image's size, reduced by PCA, divided by a bandwidth, stacked below the positions; at most 16 dimensions in all.
"""

from __future__ import annotations

import numpy as np
from common import check, mosaic, options, overlay, save
from scipy.ndimage import gaussian_filter
from scipy.stats import zscore
from skimage.feature import multiscale_basic_features

from crispmask import DenseCRF, Gaussian, Kernel


def texture(image: np.ndarray, dimensions: int) -> np.ndarray:
    """Principal components (dimensions, H, W) of the logarithmic local energy of each filter's response."""
    responses = np.moveaxis(multiscale_basic_features(image, sigma_max=8), -1, 0)
    responses = responses - responses.mean((1, 2), keepdims=True)
    energy = zscore(np.log(gaussian_filter(responses**2, (0, 8, 8)) + 1e-9).reshape(len(responses), -1), axis=1)
    directions = np.linalg.eigh(energy @ energy.T)[1][:, : -dimensions - 1 : -1]
    components = directions.T @ energy
    return (components / components[0].std()).reshape(dimensions, *image.shape)


def crf(features: np.ndarray, spots: np.ndarray) -> DenseCRF:
    """Labels known in the spots; a kernel on positions (so wide that they hardly matter) and features; smoothness."""
    unary = 3.0 * ((np.arange(3)[:, None, None] != spots) & (spots < 3))
    points = np.concatenate([np.indices(spots.shape) / 256, features / 0.15])
    return DenseCRF(unary, [Kernel(points, 6), Gaussian(2, 2)])


def main() -> None:
    arguments = options(__doc__, size=256)
    image, truth, spots = mosaic(arguments.size)
    panels = {"known labels": overlay(image, spots)}
    bank = texture(image, 6)
    for name, features in (("grey values", image[None] / 45), ("filter bank, PCA to 6", bank)):
        labels = crf(features, spots).run().labels
        print(f"{name}: {(labels == truth).mean():.1%} of the labels are right")
        panels[name] = overlay(image, labels)
    step = -(-arguments.size // 85)
    crop = np.s_[: arguments.size // 3 : step, : 2 * arguments.size // 3 : step]  # two spots, thinned out
    check(crf(bank[(..., *crop)], spots[crop]))
    save(panels | {"truth": overlay(image, truth)}, arguments.output)


if __name__ == "__main__":
    main()
