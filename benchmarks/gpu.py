"""How fast is the dense CRF on a GPU? With the name of the card, beside the CPU, the exact layer and pydensecrf2.

    python benchmarks/gpu.py                          # everything on "cuda"
    python benchmarks/gpu.py --device cpu --small     # the same code on the CPU, small: does it run?

Prints Markdown tables: a whole image with 2, 5 and 21 labels, lattice and everything included; ten and a hundred
windows; `refine` with 20 masks a photo; the layer forwards and backwards; growth with pixels; how many labels equal the
CPU's; what the plain PyTorch kernels, atomic sums and a recorded CUDA graph change. Medians of wall-clock time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from crf import ALPHA, BETA, GAMMA, ITERATIONS, SMOOTHNESS, WEIGHT, instances, load, peer, theirs, unaries

from crispmask.crf import Bilateral, DenseCRF, Gaussian, _tensor_kernels, on_device, window_marginals
from crispmask.crf.layer import CRFLayer
from crispmask.crf.torch_lattice import TorchLattice
from crispmask.crf.torch_meanfield import Windows
from crispmask.instances import Instances
from crispmask.refinement import default_params, refine_instances, refine_together


def measure(work: Callable[[], object], device: str, repeats: int, warm: int = 2) -> float:
    """Milliseconds; the first runs, which compile, do not count."""
    times = []
    for _ in range(repeats + warm):
        if device != "cpu":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[warm:])


def kernels(image: object) -> list[Bilateral | Gaussian]:
    return [Bilateral(image, ALPHA, BETA, WEIGHT), Gaussian(GAMMA, SMOOTHNESS)]  # type: ignore[arg-type]


def whole_images(options: argparse.Namespace, size: tuple[int, int]) -> None:
    print(
        "| whole image | device ms | as a graph ms | CPU ms | pydensecrf2 ms | labels equal to the CPU's | max |ΔQ| |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    image = load(options.image, size)
    on = torch.from_numpy(image).to(options.device)
    for labels in (2, 5, 21):
        unary = unaries(image.shape[:2], labels)
        energies = torch.from_numpy(unary).to(options.device)

        def solve(graph: bool, energies: torch.Tensor = energies, labels: int = labels) -> torch.Tensor:
            flat = energies.reshape(labels, -1)
            return on_device.infer(flat, image.shape[:2], kernels(on), None, ITERATIONS, graph=graph)

        launched = measure(lambda: solve(False), options.device, options.repeats)
        graph = measure(lambda: solve(True), options.device, options.repeats)
        crf = DenseCRF(unary, kernels(image))
        expected = crf.run(ITERATIONS)
        cpu = measure(lambda: DenseCRF(unary, kernels(image)).run(ITERATIONS), "cpu", 3)  # noqa: B023
        old = f"{measure(lambda: theirs(image, unary), 'cpu', 1):.0f}" if peer else "-"  # noqa: B023
        found = solve(False).cpu().numpy().reshape(unary.shape)
        equal = 100 * (found.argmax(0) == expected.labels).mean()
        difference = abs(found - expected.marginals).max()
        print(f"| {size[0]}x{size[1]}, L = {labels} | {launched:.1f} | {graph:.1f} | {cpu:.1f} | {old} | {equal:.3f} % "
              f"| {difference:.1e} |", flush=True)  # fmt: skip


def windows(options: argparse.Namespace, size: tuple[int, int]) -> None:
    image = load(options.image, size)
    boxes = instances(image.shape[:2])
    print("\n| windows | device ms | ms a window | CPU ms, one thread |\n| --- | --- | --- | --- |")
    for count in (10, 100):
        some = [boxes[i % len(boxes)] for i in range(count)]
        odds = [box[2] for box in some]
        crops = [np.ascontiguousarray(image[box[0], box[1]]) for box in some]
        place = torch.device(options.device)
        took = measure(
            lambda: on_device.infer_windows(odds, [kernels(c) for c in crops], ITERATIONS, place),  # noqa: B023
            options.device,
            options.repeats,
        )
        cpu = measure(lambda: window_marginals(odds, [kernels(c) for c in crops], ITERATIONS), "cpu", 1)  # noqa: B023
        print(f"| {count} | {took:.1f} | {took / count:.2f} | {cpu:.0f} |", flush=True)


def layer(options: argparse.Namespace, side: int, batch: int) -> None:
    print(f"\nLayer, batch {batch} of {side}x{side}, 5 iterations:\n")
    print("| engine | forward ms | forward and backward ms | peak MB |\n| --- | --- | --- | --- |")
    random = torch.Generator().manual_seed(0)
    image = (255 * torch.rand(batch, 3, side // 8, side // 8, generator=random)).to(options.device)
    image = torch.nn.functional.interpolate(image, size=(side, side), mode="bilinear")
    unary = torch.randn(batch, 2, side, side, generator=random).to(options.device).requires_grad_()
    for engine in options.engines.split(","):
        module = CRFLayer(theta_alpha=30.0, theta_beta=10.0, engine=engine).to(options.device)  # type: ignore[arg-type]
        repeats, warm = (options.repeats, 2) if engine == "lattice" else (1, 1)
        if options.device != "cpu":
            torch.cuda.reset_peak_memory_stats()

        def both(module: CRFLayer = module) -> None:
            module(unary, image)[:, 1].clamp(min=1e-6).log().mean().backward()

        with torch.no_grad():
            forward = measure(lambda: module(unary, image), options.device, repeats, warm)  # noqa: B023
        backward = measure(both, options.device, repeats, warm)
        peak = f"{torch.cuda.max_memory_allocated() / 1e6:.0f}" if options.device != "cpu" else "-"
        print(f"| {engine} | {forward:.1f} | {backward:.1f} | {peak} |", flush=True)


def photos(options: argparse.Namespace, size: tuple[int, int]) -> None:
    """`refine` with everything but the detector: twenty masks on a photo, photo by photo and several together."""
    image, device = load(options.image, size), torch.device(options.device)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[1], : size[0]]
    masks = []
    for _ in range(20):
        radius = rng.uniform(0.04, 0.18) * size[1]
        row, column = (rng.uniform(radius, length - radius) for length in image.shape[:2])
        distance = np.hypot(y - row, x - column) - radius
        masks.append((1 / (1 + np.exp(distance / 3))) * (distance < 12))
    found = Instances.from_masks(np.array(masks, np.float32), scores=np.full(20, 0.9))
    given, params = (image, found, [False] * len(found)), default_params()
    cpu = refine_instances(image, found, params)[0].masks()
    count = 3 if options.small else 100
    print(f"\nrefine, {len(found)} masks on each of {count} photos:\n")
    print("| photos at a time | ms a mask | labels equal to the CPU's |\n| --- | --- | --- |")
    for together in (1, 4):
        made = refine_together([given] * together, params, device)
        equal = 100 * np.mean([(after.masks() == cpu).mean() for after, _ in made])
        start = time.perf_counter()  # windows are on the CPU when a call ends
        for _ in range(0, count, together):
            refine_together([given] * together, params, device)
        took = 1e3 * (time.perf_counter() - start) / (-(-count // together) * together * len(found))
        print(f"| {together} | {took:.2f} | {equal:.3f} % |", flush=True)


def parts(options: argparse.Namespace, size: tuple[int, int]) -> None:
    """Build and passes, fused and plain, sorted and atomic."""
    image = torch.from_numpy(load(options.image, size)).to(options.device)
    height, width = image.shape[:2]
    shape, device = (height, width), torch.device(options.device)
    features = on_device._features([Bilateral(image, ALPHA, BETA, WEIGHT)], Windows([shape], device))
    lattice = TorchLattice(features)
    print(f"\nParts of one pass, {width}x{height}, {lattice.vertices} vertices:\n")
    print(f"build {measure(lambda: TorchLattice(features), options.device, options.repeats):.2f} ms\n")
    print(
        "| channels | kernels | splat ms | splat with atomics ms | blur ms | slice ms |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    plain = _tensor_kernels.PLAIN
    fused = _tensor_kernels.for_device(device)
    for channels in (1, 21):
        values = torch.rand(height * width, channels, device=device)
        for name, used in (("fused", fused), ("plain", plain))[1 if fused is plain else 0 :]:
            index = lattice.corners.reshape(-1).long()
            lattice._kernels = used

            def atomic(values: torch.Tensor = values, index: torch.Tensor = index) -> None:
                spread = (lattice.weights[:, :, None] * values[:, None]).reshape(-1, values.shape[1])
                values.new_zeros(lattice.vertices + 1, values.shape[1]).index_add_(0, index, spread)

            on = lattice.splat(values)
            works = (lambda: lattice.splat(values), atomic, lambda: lattice.blur(on), lambda: lattice.slice(on))  # noqa: B023
            times = [measure(work, options.device, options.repeats) for work in works]
            print(f"| {channels} | {name} | " + " | ".join(f"{t:.3f}" for t in times) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--image", default="astronaut", help="a file, or a photo of scikit-image by name")
    parser.add_argument("--engines", default="lattice,exact", help="of the layer")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--small", action="store_true", help="an eighth of the pixels and a small batch")
    options = parser.parse_args()
    card = torch.cuda.get_device_name(torch.device(options.device)) if options.device != "cpu" else "the CPU"
    print(f"{card}, torch {torch.__version__}; {ITERATIONS} iterations, medians of {options.repeats}\n")
    size = (160, 120) if options.small else (640, 480)
    whole_images(options, size)
    windows(options, size)
    photos(options, size)
    layer(options, *((48, 2) if options.small else (256, 8)))
    parts(options, size)
    print("\n| pixels, two labels | device ms |\n| --- | --- |")
    for side in (64, 128) if options.small else (256, 512, 1024, 2048):
        image = torch.from_numpy(load(options.image, (side, side))).to(options.device)
        energies = torch.from_numpy(unaries((side, side), 2)).to(options.device).reshape(2, -1)
        solve = lambda: on_device.infer(energies, (side, side), kernels(image), None, ITERATIONS)  # noqa: B023, E731
        print(f"| {side}² | {measure(solve, options.device, options.repeats):.1f} |", flush=True)


if __name__ == "__main__":
    main()
