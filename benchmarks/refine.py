"""Refining the instances of a photo: crispmask against pydensecrf, called once per instance.

    python benchmarks/refine.py [--image PHOTO] [--instances 10] [--threads 2]

pydensecrf gets the full image, as its users call it, and in a second row the very windows that crispmask refines. All
get the paper's parameters and the same unary. Prints a Markdown table of medians, ratios, and the labels that agree
with crispmask's: in the windows almost all; on the full image fewer, since there the kernel of 60 px sees more context.
Needs pydensecrf2 (`pip install 'crispmask[bench]'`).
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from PIL import Image

from crispmask import CRFParams, Instances, read_image, refine
from crispmask.refinement.unary import log_odds, soften

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


def with_pydensecrf(
    image: np.ndarray, masks: np.ndarray, params: CRFParams, regions: list[tuple[slice, slice]]
) -> list[np.ndarray]:
    """Labels (h, w) bool of each region, one CRF per instance."""
    import pydensecrf.densecrf as dcrf

    result = []
    for mask, region in zip(masks, regions, strict=True):
        odds = log_odds(soften(mask[region].astype(np.float32), params.smoothing), params.confidence)
        height, width = odds.shape
        crf = dcrf.DenseCRF2D(width, height, 2)
        crf.setUnaryEnergy(np.stack([np.zeros_like(odds), -odds]).reshape(2, -1))
        crf.addPairwiseGaussian(sxy=params.theta_gamma, compat=params.smoothness_weight)
        crop = np.ascontiguousarray(image[region])
        crf.addPairwiseBilateral(params.theta_alpha, params.theta_beta, crop, params.bilateral_weight)
        result.append(np.argmax(crf.inference(params.iterations), axis=0).reshape(height, width) == 1)
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
    windows = [window.slices for window in refined.windows]
    everything = [(slice(None), slice(None))] * len(masks)
    times: dict[str, list[float]] = {"ours": [], "windows": [], "full": []}
    for _ in range(arguments.runs):
        start = time.perf_counter()
        refined = refine(image, instances, params, threads=arguments.threads)
        times["ours"].append(time.perf_counter() - start)
        start = time.perf_counter()
        in_windows = with_pydensecrf(image, masks, params, windows)
        times["windows"].append(time.perf_counter() - start)
        start = time.perf_counter()
        in_full = with_pydensecrf(image, masks, params, everything)
        times["full"].append(time.perf_counter() - start)
    same_windows = np.mean([(w.mask == labels).mean() for w, labels in zip(refined.windows, in_windows, strict=True)])
    same_full = np.mean([(refined.mask(i) == labels).mean() for i, labels in enumerate(in_full)])
    ours, theirs, full = (statistics.median(times[key]) for key in ("ours", "windows", "full"))
    print(f"{len(masks)} instances, {SIZE_HW[1]}x{SIZE_HW[0]}, {params.iterations} iterations, paper's parameters\n")
    print("| | median, s | crispmask is faster by | labels equal |\n| --- | --- | --- | --- |")
    print(f"| crispmask.refine, {arguments.threads} threads | {ours:.3f} | | |")
    print(f"| pydensecrf on the full image, per instance | {full:.3f} | {full / ours:.1f} x | {same_full:.2%} |")
    print(f"| pydensecrf on the same windows | {theirs:.3f} | {theirs / ours:.1f} x | {same_windows:.2%} |")


if __name__ == "__main__":
    main()
