"""Refining the instances of an image: crispmask against pydensecrf, called once per instance.

    python benchmarks/refine.py [--image FILE] [--instances 10] [--threads 2]

pydensecrf gets the full image, as its users call it, and in a second row the very windows that crispmask refines. All
get the paper's parameters and the same unary. Prints a Markdown table of medians in wall-clock time, in brackets of the
processor time of all threads (the number to trust on a busy machine), ratios, and the labels that agree
with crispmask's: in the windows almost all; on the full image fewer, since there the kernel of 60 px sees more context.
Without pydensecrf2 (`pip install 'crispmask[bench]'`) crispmask is timed alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from crispmask import CRFParams, Instances, read_image, refine
from crispmask.refinement.unary import log_odds, soften

SIZE_HW = (480, 640)


def photo(path: str | None) -> np.ndarray:
    """A 640x480 image: the given one, or scikit-image's coffee cup (public domain)."""
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


def agreement(mask: np.ndarray, window: tuple[slice, slice], labels: np.ndarray) -> float:
    """Share of equal pixels of a mask in its window and of labels there or of the full image."""
    if labels.shape == SIZE_HW:
        full = np.zeros(SIZE_HW, bool)
        full[window] = mask
        mask = full
    return float((mask == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="image file; by default one of scikit-image's")
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    image, masks = photo(arguments.image).copy(), ellipses(arguments.instances)
    params, instances = CRFParams.paper(), Instances.from_masks(masks)

    def ours() -> list[np.ndarray]:
        return [window.mask for window in refine(image, instances, params, threads=arguments.threads).windows]

    windows = [window.slices for window in refine(image, instances, params).windows]  # compiles
    everything = [(slice(None), slice(None))] * len(masks)
    ways: dict[str, Callable[[], list[np.ndarray]]] = {f"crispmask.refine, {arguments.threads} threads": ours}
    if importlib.util.find_spec("pydensecrf"):
        ways["pydensecrf on the full image, per instance"] = partial(with_pydensecrf, image, masks, params, everything)
        ways["pydensecrf on the same windows"] = partial(with_pydensecrf, image, masks, params, windows)
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}  # wall-clock, processor
    found: dict[str, list[np.ndarray]] = {}
    for _ in range(arguments.runs):
        for way, run in ways.items():
            start = time.perf_counter(), time.process_time()
            found[way] = run()
            times[way].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    (first, reference), *_ = found.items()
    medians = {way: [statistics.median(column) for column in zip(*times[way], strict=True)] for way in ways}
    fastest, least = medians[first]
    print(f"{len(masks)} instances, {SIZE_HW[1]}x{SIZE_HW[0]}, {params.iterations} iterations, paper's parameters\n")
    print("| | median, s (cpu) | crispmask is faster by (cpu) | labels equal |\n| --- | --- | --- | --- |")
    print(f"| {first} | {fastest:.3f} ({least:.3f}) | | |")
    for way in list(ways)[1:]:
        median, used = medians[way]
        same = np.mean([agreement(*three) for three in zip(reference, windows, found[way], strict=True)])
        print(f"| {way} | {median:.3f} ({used:.3f}) | {median / fastest:.1f} x ({used / least:.1f} x) | {same:.2%} |")
    if len(ways) == 1:
        print("| pydensecrf | not measured: pydensecrf2 is not installed | | |")


if __name__ == "__main__":
    main()
