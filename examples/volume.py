"""A volume: points of any arrangement, here voxels, through `Kernel(features)`.

python examples/volume.py -o volume.png

Blobs in a noisy scan. The kernel sees three positions and the smoothed density; the unary sees each voxel alone.
"""

from __future__ import annotations

import numpy as np
from common import check, options, overlay, save
from scipy.ndimage import gaussian_filter
from skimage.data import binary_blobs

from crispmask import DenseCRF, Kernel

NOISE = 0.6  # standard deviation of the scan; the density is 0 or 1


def crf(scan: np.ndarray) -> DenseCRF:
    """Unary from the noise's distribution; a bilateral and a smoothness kernel in three dimensions."""
    unary = np.stack([scan**2, (scan - 1) ** 2]) / (2 * NOISE**2)
    position = np.indices(scan.shape)
    smooth = gaussian_filter(scan, 1.5)[None]
    appearance = Kernel(np.concatenate([position / 4, smooth / 0.15]), 4)
    return DenseCRF(unary, [appearance, Kernel(position / 1.0, 2)])


def main() -> None:
    arguments = options(__doc__, size=64)
    truth = binary_blobs(arguments.size, 0.25, n_dim=3, volume_fraction=0.3, rng=0)
    scan = truth + np.random.default_rng(0).normal(0, NOISE, truth.shape)
    labels = crf(scan).run().labels

    def iou(mask: np.ndarray) -> float:
        return float((mask & truth).sum() / (mask | truth).sum())

    print(f"IoU of voxels on their own {iou(scan > 0.5):.3f}, with the CRF {iou(labels == 1):.3f}")
    check(crf(scan[:13, :13, :13]))
    middle = arguments.size // 2
    grey = np.clip(64 + 128 * scan[middle], 0, 255).astype(np.uint8)
    slices = {"voxels on their own": scan[middle] > 0.5, "CRF": labels[middle], "truth": truth[middle]}
    save({"one slice": grey, **{k: overlay(grey, v.astype(int)) for k, v in slices.items()}}, arguments.output)


if __name__ == "__main__":
    main()
