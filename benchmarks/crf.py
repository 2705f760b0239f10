"""How fast is the dense CRF? crispmask and, where installed, pydensecrf2, on the same image in the same run.

    python benchmarks/crf.py                         # one image at 640x480: 2, 5 and 21 labels, ten instances
    python benchmarks/crf.py --sizes 128,512,2048    # growth with pixels (squares)
    python benchmarks/crf.py --image photo.jpg --labels 2 --threads 1

Prints a Markdown table. Times are medians over `--repeats` runs, in wall-clock time, and in the processor time of the
calling thread where one thread works (the number to trust on a busy machine). See README.md beside this file.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from crispmask.crf import Bilateral, DenseCRF, Gaussian, PermutohedralLattice, two_label_marginals

try:
    import pydensecrf.densecrf as peer
except ImportError:
    peer = None

ALPHA, BETA, GAMMA, WEIGHT, SMOOTHNESS, ITERATIONS = 60, 10, 1, 3, 1, 10


def main() -> None:
    options = arguments()
    if options.memory_of:
        print(peak_memory(options.image, options.memory_of, theirs if options.peer else ours))
        return
    print(f"{ITERATIONS} iterations, theta_alpha {ALPHA}, theta_beta {BETA}, theta_gamma {GAMMA}; "
          f"medians of {options.repeats}; pydensecrf2 {'installed' if peer else 'not installed'}\n")  # fmt: skip
    print("| task | threads | crispmask ms (cpu) | pydensecrf2 ms (cpu) | ratio (cpu) | equal labels |")
    print("| --- | --- | --- | --- | --- | --- |")
    photo = load(options.image, (640, 480))
    for labels in options.labels:
        full_image(photo, labels, options.repeats)
    for threads in options.threads:
        ten_instances(photo, threads, options.repeats)
    for size in options.sizes:
        full_image(load(options.image, (size, size)), 2, options.repeats if size < 2048 else 1)
    print()
    bandwidth(photo, options.repeats)
    startup()
    for size in options.memory:
        command = [sys.executable, __file__, "--image", options.image, "--memory-of", str(size)]
        for name, extra in (("crispmask", []), ("pydensecrf2", ["--peer"]))[: 2 if peer else 1]:
            used = subprocess.check_output(command + extra, text=True).strip()
            print(f"- Peak memory, {size}x{size}, two labels, {name}: {used}")


def arguments() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",") if part]

    parser = argparse.ArgumentParser(description="Time the dense CRF against pydensecrf2.")
    parser.add_argument("--image", default="astronaut", help="a file, or an image of scikit-image by name")
    parser.add_argument("--labels", type=numbers, default=[2, 5, 21])
    parser.add_argument("--sizes", type=numbers, default=[], help="also squares of these sides, two labels")
    parser.add_argument("--threads", type=numbers, default=[1, 2], help="for the ten instances")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", type=numbers, default=[], help="peak memory for squares of these sides")
    parser.add_argument("--memory-of", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def load(name: str, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3), resized to (W, H)."""
    if Path(name).is_file():
        image = Image.open(name).convert("RGB")
    else:
        from skimage import data

        image = Image.fromarray(getattr(data, name)())
    return np.array(image.resize(size))


def unaries(shape: tuple[int, int], labels: int) -> np.ndarray:
    """Energies with structure of a tenth of the image, as a network's would have."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(labels, 24, 24)).astype(np.float32)
    grown = [np.array(Image.fromarray(c).resize(shape[::-1], Image.Resampling.BICUBIC)) for c in coarse]
    return np.ascontiguousarray(2 * np.stack(grown), np.float32)


Box = tuple[slice, slice, np.ndarray]


def instances(shape: tuple[int, int]) -> list[Box]:
    """Ten boxes of COCO's sizes (a tenth of the image on average) with the log-odds of an ellipse in each."""
    rng = np.random.default_rng(1)
    found = []
    for scale in np.linspace(0.15, 0.5, 10):
        height, width = (max(16, int(side * scale * f)) for side, f in zip(shape, (1.3, 0.8), strict=True))
        y, x = int(rng.integers(0, shape[0] - height)), int(rng.integers(0, shape[1] - width))
        rows, columns = np.indices((height, width))
        inside = ((rows / height - 0.5) / 0.38) ** 2 + ((columns / width - 0.5) / 0.38) ** 2 < 1
        odds = gaussian_filter(np.where(inside, 3.5, -3.5).astype(np.float32), 0.03 * np.sqrt(inside.sum()))
        found.append((slice(y, y + height), slice(x, x + width), odds))
    return found


def ours(image: np.ndarray, unary: np.ndarray) -> np.ndarray:
    kernels = [Bilateral(image, ALPHA, BETA, WEIGHT), Gaussian(GAMMA, SMOOTHNESS)]
    return DenseCRF(unary, kernels).run(ITERATIONS).labels


def theirs(image: np.ndarray, unary: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    model = peer.DenseCRF2D(width, height, len(unary))
    model.setUnaryEnergy(unary.reshape(len(unary), -1))
    model.addPairwiseBilateral(ALPHA, BETA, image, WEIGHT)
    model.addPairwiseGaussian(GAMMA, SMOOTHNESS)
    return np.argmax(np.array(model.inference(ITERATIONS)), axis=0).reshape(height, width)


def full_image(image: np.ndarray, labels: int, repeats: int) -> None:
    unary = unaries(image.shape[:2], labels)
    new = measure(lambda: ours(image, unary), repeats)
    old = measure(lambda: theirs(image, unary), max(1, repeats // 2)) if peer else None
    row(f"{image.shape[1]}x{image.shape[0]}, L = {labels}", 1, new, old)


def window(image: np.ndarray, box: Box) -> np.ndarray:
    """Mask of one of `instances`, bool (h, w)."""
    kernels = [Bilateral(image[box[0], box[1]], ALPHA, BETA, WEIGHT), Gaussian(GAMMA, SMOOTHNESS)]
    return two_label_marginals(box[2], kernels, ITERATIONS) > 0.5


def ten_instances(image: np.ndarray, threads: int, repeats: int) -> None:
    boxes = instances(image.shape[:2])

    def peer_window(box: Box) -> np.ndarray:
        crop = np.ascontiguousarray(image[box[0], box[1]])
        return theirs(crop, np.stack([np.zeros_like(box[2]), -box[2]])) == 1

    def peer_full(box: Box) -> np.ndarray:
        odds = np.full(image.shape[:2], -3.5, np.float32)
        odds[box[0], box[1]] = box[2]
        return (theirs(image, np.stack([np.zeros_like(odds), -odds])) == 1)[box[0], box[1]]

    def flat(work: Callable[[Any], np.ndarray], count: int) -> np.ndarray:
        if count == 1:
            return np.concatenate([work(box).ravel() for box in boxes])
        largest_first = sorted(range(len(boxes)), key=lambda i: -boxes[i][2].size)
        with ThreadPoolExecutor(count) as pool:
            done = dict(zip(largest_first, pool.map(lambda i: work(boxes[i]), largest_first), strict=True))
        return np.concatenate([done[i].ravel() for i in range(len(boxes))])

    new = measure(lambda: flat(lambda box: window(image, box), threads), repeats, alone=threads == 1)
    for name, work in (("windows", peer_window), ("full image each", peer_full)):
        old = measure(lambda work=work: flat(work, 1), 1) if peer else None  # type: ignore[misc]
        row(f"ten instances; pydensecrf2 on {name}", threads, new, old)


Timing = tuple[float, float, np.ndarray]


def measure(work: Callable[[], np.ndarray], repeats: int, *, alone: bool = True) -> Timing:
    """Median wall-clock and processor time in seconds, after one run that compiles; and the result.

    alone: whether only the calling thread works; else its processor time says nothing, and the process's is taken.
    """
    clock = time.thread_time if alone else time.process_time
    result = work() if repeats > 1 else None
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), clock()
        result = work()
        walls.append(time.perf_counter() - wall)
        cpus.append(clock() - cpu)
    assert result is not None
    return statistics.median(walls), statistics.median(cpus), result


def row(task: str, threads: int, new: Timing, old: Timing | None) -> None:
    peers = ["-"] * 3
    if old:
        equal = float((new[2] == old[2]).mean())
        # With several threads the processor time is their sum: comparable with the peer's only per thread.
        ratio = f"{old[0] / new[0]:.1f} ({old[1] / new[1] * threads:.1f})"
        peers = [f"{old[0] * 1e3:.0f} ({old[1] * 1e3:.0f})", ratio, f"{equal:.2%}"]
    cells = [task, str(threads), f"{new[0] * 1e3:.1f} ({new[1] * 1e3:.1f})", *peers]
    print(f"| {' | '.join(cells)} |", flush=True)


def bandwidth(image: np.ndarray, repeats: int) -> None:
    """The filter pass against the time that copying as many bytes takes."""
    kernel = Bilateral(image, ALPHA, BETA, WEIGHT)
    lattice = kernel.lattice
    values = np.random.default_rng(0).random((1, lattice.size), dtype=np.float32)
    out = np.empty_like(values)
    passed = measure(lambda: lattice.filter(values, out=out), max(9, repeats))[1]
    # Corners and weights are read twice (splat, slice), neighbours and two values per axis once, in and out once.
    axes = lattice.dimension + 1
    moved = 2 * (lattice.corners.nbytes + lattice.weights.nbytes) + lattice.around.nbytes
    moved += axes * lattice.vertices * 8 + 2 * values.nbytes
    source = np.ones(moved // 8, np.float32)  # a copy reads and writes: half the bytes each way
    target = np.empty_like(source)
    copied = measure(lambda: np.copyto(target, source) or target, max(9, repeats))[1]
    built = measure(lambda: PermutohedralLattice(kernel.features(kernel.shape)).corners, repeats)[1]
    print(f"- Lattice: {lattice.vertices} vertices for {lattice.size} pixels, built in {built * 1e3:.1f} ms.")
    print(f"- Filter pass {passed * 1e3:.2f} ms for {moved / 1e6:.0f} MB moved; copying as many bytes takes "
          f"{copied * 1e3:.2f} ms ({moved / copied / 1e9:.1f} GB/s): ratio {passed / copied:.1f}.")  # fmt: skip


def startup() -> None:
    """Import and first call in fresh processes, with Numba's cache filled."""
    first = (
        "import numpy as np; from crispmask.crf import Bilateral, DenseCRF, Gaussian; "
        "kernels = [Bilateral(np.zeros((9, 9, 3), np.uint8), 9, 9, 1), Gaussian(1, 1)]; "
        "DenseCRF(np.zeros((2, 9, 9)), kernels).run()"
    )
    for name, code in (("import crispmask.crf", "import crispmask.crf"), ("import and first result", first)):
        walls, cpus = [], []
        for _ in range(4):
            before, start = children_cpu(), time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            walls.append(time.perf_counter() - start)
            cpus.append(children_cpu() - before)
        wall, cpu = statistics.median(walls), statistics.median(cpus)
        print(f"- Fresh process, {name}: {wall:.2f} s ({cpu:.2f} s of processor time), Python itself included.")


def children_cpu() -> float:
    """Seconds of processor time that finished child processes took."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peak_memory(image: str, size: int, work: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> str:
    photo = load(image, (size, size))
    unary = unaries((size, size), 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.thread_time()
    work(photo, unary)
    seconds = time.thread_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{peak * unit / 1e9:.2f} GB ({before * unit / 1e9:.2f} before), {seconds:.1f} s of processor time"


if __name__ == "__main__":
    main()
