"""What does the differentiable CRF cost? Both engines of `CRFLayer` on the instances of an image.

    python benchmarks/layer.py                        # on the CPU: an image of 160x120, else exact takes hours
    python benchmarks/layer.py --device cuda          # 640x480
    python benchmarks/layer.py --scale 1 --engines lattice

Every instance is a window of its own. Prints a Markdown table: marginals alone, and with gradients to the unary,
weights and bandwidths. The lattice always runs on the CPU. Processor time of this process on the CPU (the number to
trust on a busy machine), wall-clock time on a GPU. Memory is the peak above what the process held before: of tensors on
a GPU, of the whole process on the CPU. The same windows through `DenseCRF`, without gradients, are the measure.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context

import numpy as np
import torch
from PIL import Image
from refine import SIZE_HW, ellipses, photo

from crispmask import CRFParams
from crispmask.crf import Bilateral, Gaussian, two_label_marginals
from crispmask.crf.layer import CRFLayer
from crispmask.refinement.colour import rgb_to_lab
from crispmask.refinement.unary import log_odds, soften

Window = tuple[np.ndarray, np.ndarray, float]  # log-odds (h, w), Lab (h, w, 3), size of the object


def windows(path: str | None, count: int, scale: float, params: CRFParams) -> list[Window]:
    """Ellipses with their context, as `refine` sees them."""
    size = round(SIZE_HW[1] * scale), round(SIZE_HW[0] * scale)
    lab = rgb_to_lab(np.asarray(Image.fromarray(photo(path)).resize(size)))
    found = []
    for mask in ellipses(count):
        small = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
        rows, columns = np.flatnonzero(small.any(1)), np.flatnonzero(small.any(0))
        height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
        y, x = (max(round(params.context * side), params.context_min) for side in (height, width))
        region = np.s_[max(0, rows[0] - y) : rows[-1] + y, max(0, columns[0] - x) : columns[-1] + x]
        odds = log_odds(soften(small[region].astype(np.float32), params.smoothing), params.confidence)
        found.append((odds, lab[region].copy(), float(np.sqrt(height * width))))
    return found


def with_layer(items: list[Window], layer: CRFLayer, device: str, gradients: bool) -> None:
    for odds, lab, size in items:
        unary = torch.from_numpy(np.stack([np.zeros_like(odds), -odds]))[None].to(device).requires_grad_(gradients)
        image = torch.from_numpy(lab).permute(2, 0, 1)[None].to(device)
        with torch.set_grad_enabled(gradients):
            q = layer(unary, image, None, torch.full((1, 2), 1 / size, device=device))
            if gradients:
                q[:, 1].log().mean().backward()
    if device != "cpu":
        torch.cuda.synchronize()


def with_arrays(items: list[Window], params: CRFParams) -> None:
    for odds, lab, size in items:
        appearance = Bilateral(lab, params.theta_alpha * size, params.theta_beta, params.bilateral_weight)
        two_label_marginals(odds, [appearance, Gaussian(params.theta_gamma, params.smoothness_weight)], 10)


def measure(options: argparse.Namespace, engine: str, gradients: bool) -> tuple[float, float]:
    """Seconds (median) and megabytes (peak)."""
    torch.set_num_threads(options.threads)
    params = CRFParams(iterations=10)
    items = windows(options.image, options.instances, options.scale, params)
    device = options.device if engine == "exact" else "cpu"
    work: Callable[[list[Window]], None]
    if engine == "DenseCRF":
        work = lambda some: with_arrays(some, params)  # noqa: E731
    else:
        layer = CRFLayer.from_params(params, engine=engine).to(device)  # type: ignore[arg-type]
        work = lambda some: with_layer(some, layer, device, gradients)  # noqa: E731
    work(items[:1])  # compiles
    on_gpu = device != "cpu"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    clock = time.perf_counter if on_gpu else time.process_time
    held = torch.cuda.memory_allocated() if on_gpu else resident()
    seconds = []
    for _ in range(options.repeats):
        start = clock()
        work(items)
        seconds.append(clock() - start)
    peak = torch.cuda.max_memory_allocated() if on_gpu else resident()
    return statistics.median(seconds), (peak - held) / 1e6


def resident() -> int:
    """Most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="image file; by default one of scikit-image's")
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--device", default="cpu", help="of the exact engine")
    parser.add_argument("--scale", type=float, help="of the 640x480 image; by default 0.25 on the CPU, else 1")
    parser.add_argument("--engines", default="exact,lattice")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    options.scale = options.scale or (0.25 if options.device == "cpu" else 1.0)
    sizes = [item[0].shape for item in windows(options.image, options.instances, options.scale, CRFParams())]
    print(f"{len(sizes)} windows of {min(sizes)} to {max(sizes)} pixels, 10 iterations; exact on {options.device}\n")
    print("| | gradients | s | of DenseCRF | peak, MB |\n| --- | --- | --- | --- | --- |")
    base = None
    for engine in ("DenseCRF", *options.engines.split(",")):
        for gradients in (False,) if engine == "DenseCRF" else (False, True):
            with get_context("spawn").Pool(1) as pool:  # a process each: peaks of memory never fall
                seconds, memory = pool.apply(measure, (options, engine, gradients))
            base = base or seconds
            print(
                f"| {engine} | {'yes' if gradients else 'no'} | {seconds:.3f} | {seconds / base:.1f} x | {memory:.0f} |"
            )


if __name__ == "__main__":
    main()
