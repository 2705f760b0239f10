"""How fast is the dense CRF in a volume? crispmask and, where installed, pydensecrf2, in the same run.

    python benchmarks/volume.py                # 136 x 136 x 136 voxels, two labels, ten iterations, two threads
    python benchmarks/volume.py --side 64 --threads 1

The volume is made: three noisy ellipsoids, and a unary with structure. Both libraries build their lattices and run.
pydensecrf2 smooths on a lattice as well; crispmask's smoothness kernel is exact.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from scipy.ndimage import gaussian_filter

from crispmask.crf import DenseCRF, Gaussian
from crispmask.crf.volume import VolumeBilateral

ALPHA, BETA, GAMMA, WEIGHT, SMOOTHNESS, ITERATIONS = 10.0, 20.0, 1.0, 3.0, 1.0, 10


def scene(side: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (D, H, W), and energies float32 (2, D, H, W)."""
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[:side, :side, :side] / side
    volume = np.full((side,) * 3, 60.0)
    for center in ((0.3, 0.4, 0.5), (0.6, 0.6, 0.4), (0.5, 0.3, 0.7)):
        volume[(z - center[0]) ** 2 + (y - center[1]) ** 2 + 2 * (x - center[2]) ** 2 < 0.03] += 60
    inside = volume > 90
    volume = np.clip(volume + rng.normal(0, 12, volume.shape), 0, 255).astype(np.uint8)
    p = np.clip(gaussian_filter(inside.astype(np.float32), 3) + rng.normal(0, 0.2, volume.shape), 0.05, 0.95)
    return volume, -np.log(np.stack([1 - p, p])).astype(np.float32)


def ours(volume: np.ndarray, unary: np.ndarray, threads: int) -> np.ndarray:
    kernels = [VolumeBilateral(volume, ALPHA, BETA, WEIGHT), Gaussian(GAMMA, SMOOTHNESS)]
    return DenseCRF(unary, kernels).run(ITERATIONS, threads=threads).labels


def theirs(volume: np.ndarray, unary: np.ndarray) -> np.ndarray:
    import pydensecrf.densecrf as dcrf
    from pydensecrf.utils import create_pairwise_bilateral, create_pairwise_gaussian

    model = dcrf.DenseCRF(volume.size, 2)
    model.setUnaryEnergy(np.ascontiguousarray(unary.reshape(2, -1)))
    bilateral = create_pairwise_bilateral((ALPHA,) * 3, (BETA,), volume[..., None], chdim=3)
    # x first, as in crispmask: the lattice depends on the order
    model.addPairwiseEnergy(np.ascontiguousarray(bilateral[[2, 1, 0, 3]]), compat=WEIGHT)
    model.addPairwiseEnergy(create_pairwise_gaussian((GAMMA,) * 3, volume.shape), compat=SMOOTHNESS)
    return np.argmax(np.array(model.inference(ITERATIONS)), axis=0).reshape(volume.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=136)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    volume, unary = scene(options.side)
    small, energies = scene(12)
    ours(small, energies, options.threads)  # compiles
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(options.repeats):
        start, cpu = time.perf_counter(), time.process_time()
        labels = ours(volume, unary, options.threads)
        times.append((time.perf_counter() - start, time.process_time() - cpu))
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) * 1024 / volume.size
    wall, cpu = min(times)
    print(f"crispmask, {options.side}³, {options.threads} threads: {wall:.2f} s (CPU {cpu:.2f} s), "
          f"{peak:.0f} bytes a voxel beyond volume and unary")  # fmt: skip
    try:
        start, cpu0 = time.perf_counter(), time.process_time()
        reference = theirs(volume, unary)
    except ImportError:
        print("pydensecrf2 is not installed")
        return
    seconds, used = time.perf_counter() - start, time.process_time() - cpu0
    print(f"pydensecrf2: {seconds:.2f} s (CPU {used:.2f} s): {seconds / wall:.1f} times as long, "
          f"{used / cpu:.1f} times the CPU time; labels equal {100 * (labels == reference).mean():.2f} %")  # fmt: skip


if __name__ == "__main__":
    main()
