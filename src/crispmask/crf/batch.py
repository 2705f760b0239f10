"""Many images at once: on threads, or in few calls on a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from crispmask.crf._threads import check as check_threads
from crispmask.crf.dense import CRFResult, DenseCRF, check_iterations, two_label_marginals
from crispmask.crf.kernels import Gaussian, Kernel
from crispmask.crf.tensors import device_of, host
from crispmask.threads import interruptible_pool


def run_batch(crfs: Iterable[DenseCRF], iterations: int = 10, *, threads: int = 2) -> Iterator[CRFResult]:
    """`DenseCRF.run` of many images, in order: in place of a pool of processes.

    Threads do: the compiled loops run side by side, nothing is pickled, and compilation happens once. Images are
    taken from the iterable as threads become free, so that a generator keeps few of them in memory.

    Args:
        crfs: any number, of any sizes; those with a device are run on it one after the other.
        iterations: at least 0.
        threads: how many images are worked on at once. Results have the same bits for any number.

    Yields:
        The `CRFResult` of each, in order.

    Raises:
        ValueRangeError: a bad number of iterations or threads; features that the lattice cannot hold.
    """
    check_iterations(iterations)
    if check_threads(threads) == 1:
        yield from (crf.run(iterations) for crf in crfs)
        return
    waiting = iter(crfs)
    with interruptible_pool(threads) as pool:
        running = [pool.submit(crf.run, iterations) for crf in islice(waiting, 2 * threads)]
        while running:
            result = running.pop(0).result()
            running += [pool.submit(crf.run, iterations) for crf in islice(waiting, 1)]
            yield result


def window_marginals(
    log_odds: Sequence[Any],
    kernels: Sequence[Sequence[Kernel | Gaussian]],
    iterations: int = 10,
    *,
    device: Any = "cpu",
    threads: int = 1,
) -> list[Any]:
    """`two_label_marginals` of many windows: all instances of an image, or of many images, in one call.

    On a device other than the CPU, windows whose kernels are alike in number, kind, normalisation and self term share
    one lattice, the window's number keeping them apart; weights, bandwidths and sizes may differ.

    Args:
        log_odds: of each window, float32 (H, W), log(p / (1 - p)) of the foreground.
        kernels: of each window, as for `two_label_marginals`.
        iterations: at least 0.
        device: where to work, such as "cuda" (extra ``torch``).
        threads: on the CPU, how many windows are worked on at once.

    Returns:
        Of each window the foreground probabilities, float32 (H, W): NumPy arrays.

    Raises:
        ShapeError, ValueRangeError: as `two_label_marginals`.
        MissingExtraError, ParamsError: a device without torch, or one that there is not.
    """
    check_iterations(iterations)
    place = device_of(device, None)
    if place is not None:
        import torch

        from crispmask.crf import on_device

        found = on_device.infer_windows(log_odds, kernels, iterations, place)
        return on_device.fetched(torch.cat([q.reshape(-1) for q in found]), [q.shape for q in found]) if found else []
    odds = [np.asarray(host(o), np.float32) for o in log_odds]
    if check_threads(threads) == 1:
        return [two_label_marginals(o, k, iterations) for o, k in zip(odds, kernels, strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda o, k: two_label_marginals(o, k, iterations), odds, kernels))
