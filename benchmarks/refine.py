"""Refining the instances of a photo: crispmask against pydensecrf, called once per instance on the full image.

    python benchmarks/refine.py [--image PHOTO] [--instances 10] [--threads 2]

Both get the paper's parameters and the same unary. Prints a Markdown table of medians, the ratio, and how many labels
agree inside the refined windows. Needs pydensecrf2 (`pip install 'crispmask[bench]'`).
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from PIL import Image

from crispmask import CRFParams, Instances, read_image, refine
from crispmask.unary import log_odds, soften

SIZE_HW = (480, 640)


def photo(path: str | None) -> np.ndarray:
    """A 640x480 photo: the given one, or scikit-image's coffee cup (public domain)."""
    if path:
        image = Image.fromarray(read_image(path))
    else:
        from skimage import data

        image = Image.fromarray(data.coffee())
    return np.asarray(image.resize((SIZE_HW[1], SIZE_HW[0]), Image.Resampling.BILINEAR))


def ellipses(count: int) -> np.ndarray:
    """Masks (count, H, W) bool of the sizes that COCO's objects have: 40 to 250 px."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    masks = []
    for side in np.geomspace(40, 250, count):
        aspect = rng.uniform(0.6, 1.6)
        ry, rx = side * aspect**0.5 / 2, side / aspect**0.5 / 2
        cy, cx = rng.uniform(ry, SIZE_HW[0] - ry), rng.uniform(rx, SIZE_HW[1] - rx)
        masks.append(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1)
    return np.stack(masks)


def with_pydensecrf(image: np.ndarray, masks: np.ndarray, params: CRFParams) -> np.ndarray:
    """Labels (N, H, W) bool, one full-image CRF per instance."""
    import pydensecrf.densecrf as dcrf

    height, width = image.shape[:2]
    result = np.zeros_like(masks)
    for i, mask in enumerate(masks):
        odds = log_odds(soften(mask.astype(np.float32), params.smoothing), params.confidence)
        crf = dcrf.DenseCRF2D(width, height, 2)
        crf.setUnaryEnergy(np.stack([np.zeros_like(odds), -odds]).reshape(2, -1))
        crf.addPairwiseGaussian(sxy=params.theta_gamma, compat=params.smoothness_weight)
        crf.addPairwiseBilateral(params.theta_alpha, params.theta_beta, image, params.bilateral_weight)
        result[i] = np.argmax(crf.inference(params.iterations), axis=0).reshape(height, width)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="photo; by default one of scikit-image's")
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    image, masks = photo(arguments.image).copy(), ellipses(arguments.instances)
    params, instances = CRFParams.paper(), Instances.from_masks(masks)

    refined = refine(image, instances, params, threads=arguments.threads)  # compiles
    ours, theirs = [], []
    for _ in range(arguments.runs):
        start = time.perf_counter()
        refined = refine(image, instances, params, threads=arguments.threads)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        reference = with_pydensecrf(image, masks, params)
        theirs.append(time.perf_counter() - start)
    agreement = np.mean(
        [(refined.mask(i)[w.slices] == reference[i][w.slices]).mean() for i, w in enumerate(refined.windows)]
    )
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"{len(masks)} instances, {SIZE_HW[1]}x{SIZE_HW[0]}, {params.iterations} iterations, paper's parameters\n")
    print("| | median, s | ratio |\n| --- | --- | --- |")
    print(f"| pydensecrf, full image per instance | {b:.3f} | 1 |")
    print(f"| crispmask.refine, {arguments.threads} threads | {a:.3f} | {b / a:.1f} x faster |")
    print(f"\nlabels equal inside the windows: {100 * agreement:.2f} %")


if __name__ == "__main__":
    main()
