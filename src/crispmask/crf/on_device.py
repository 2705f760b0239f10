"""`DenseCRF` and many windows at once on a torch device: kernels become tensors, one lattice holds all windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from crispmask.crf import torch_meanfield
from crispmask.crf.kernels import Bilateral, Gaussian, Kernel
from crispmask.crf.tensors import host
from crispmask.crf.torch_lattice import TorchLattice
from crispmask.crf.torch_meanfield import GridGaussian, Message

AnyKernel = Kernel | Gaussian

# Points that share one lattice at most: beyond, windows are solved in several lots.
_MOST_POINTS = 1 << 24


def placed(values: Any, device: torch.device) -> Tensor:
    """An array or a tensor as float32 on the device."""
    return torch.as_tensor(values).to(device, torch.float32)


def infer(
    energies: Tensor,
    grid: tuple[int, ...],
    kernels: Sequence[AnyKernel],
    penalty: Any,
    iterations: int,
    watch: Callable[[Tensor], None] | None = None,
    *,
    graph: bool = False,
) -> Tensor:
    """Marginals after `iterations` updates.

    Args:
        energies: float32 (L, N), on the device to work on.
        grid: the shape of the points.
        kernels: as for `DenseCRF`.
        penalty: float32 (L, L) array, or None for Potts.
        iterations: at least 0.
        watch: called with the marginals (L, N) of the start and of every iteration.
        graph: see `torch_meanfield.repeat`.

    Returns:
        float32 (L, N).
    """
    messages = [_message([kernel], [grid], energies) for kernel in kernels if kernel.weight > 0]
    mu = None if penalty is None else torch.as_tensor(host(penalty)).to(energies)
    see = None if watch is None else lambda q: watch(q.T)
    return torch_meanfield.infer(energies.T.contiguous(), messages, mu, iterations, see, graph=graph).T


def infer_windows(
    log_odds: Sequence[Any],
    kernels: Sequence[Sequence[AnyKernel]],
    iterations: int,
    device: torch.device,
    *,
    graph: bool = False,
) -> list[Tensor]:
    """Foreground probabilities of many windows under Potts models of two labels, as one lattice on the device.

    Args:
        log_odds: of each window, float32 (H, W) array or tensor.
        kernels: of each window. Windows whose kernels are alike in number, kind, normalisation and self term share a
            lattice (of some 16 million points at most); their weights and bandwidths may differ.
        iterations: at least 0.
        device: where to work.
        graph: see `torch_meanfield.repeat`.

    Returns:
        Of each window, float32 (H, W) on the device.
    """
    results: list[Tensor | None] = [None] * len(log_odds)
    used = [[kernel for kernel in some if kernel.weight > 0] for some in kernels]
    for lot in _lots(log_odds, used):
        odds = [torch.as_tensor(log_odds[i]) for i in lot]
        shapes = [tuple(o.shape) for o in odds]
        flat = torch.cat([o.reshape(-1) for o in odds]).to(device, torch.float32)[:, None]
        stacks = zip(*(used[i] for i in lot), strict=True)
        messages = [_message(stack, shapes, flat) for stack in stacks] if len(flat) else []
        q = torch_meanfield.two_labels(-flat, messages, None, iterations, graph=graph)[:, 0]
        parts = torch.split(q, [prod(shape) for shape in shapes])
        for i, part, shape in zip(lot, parts, shapes, strict=True):
            results[i] = part.view(shape)
    return [result for result in results if result is not None]


def _lots(log_odds: Sequence[Any], kernels: Sequence[Sequence[AnyKernel]]) -> list[list[int]]:
    """Numbers of the windows that are solved together."""
    lots: dict[Any, list[list[int]]] = {}
    points: dict[Any, int] = {}
    for i, (odds, some) in enumerate(zip(log_odds, kernels, strict=True)):
        alike = (odds.ndim, *(_kind(kernel) for kernel in some))
        size = prod(odds.shape)
        if alike not in lots or points[alike] + size > _MOST_POINTS:
            lots.setdefault(alike, []).append([])
            points[alike] = 0
        lots[alike][-1].append(i)
        points[alike] += size
    return [lot for some in lots.values() for lot in some]


def _kind(kernel: AnyKernel) -> tuple[Any, ...]:
    channels = None
    if isinstance(kernel, Bilateral):
        channels = ("bilateral", kernel.image.shape[-1])
    elif isinstance(kernel, Kernel):
        channels = ("features", len(kernel.features(kernel.shape)))
    return channels, kernel.normalization, kernel.self_term


def _message(kernels: Sequence[AnyKernel], shapes: Sequence[tuple[int, ...]], like: Tensor) -> Message:
    """The message of windows' kernels of one kind, whose weights and bandwidths may differ."""
    sizes = torch.tensor([prod(shape) for shape in shapes])
    first, device = kernels[0], like.device
    weights = torch.tensor([kernel.weight for kernel in kernels], dtype=like.dtype)
    weight = torch.repeat_interleave(weights, sizes).to(device)[:, None]
    if isinstance(first, Gaussian):
        thetas = torch.tensor([_per_axis(kernel.theta_gamma, shapes[0]) for kernel in kernels])  # type: ignore[union-attr]
        gaussian = GridGaussian(shapes, thetas, like)
        ones = torch.ones_like(weight)
        return torch_meanfield.message(gaussian.filter, lambda: ones, weight, first.normalization, first.self_term)
    lattice = _lattice(kernels, shapes, sizes, device)  # type: ignore[arg-type]
    return torch_meanfield.message(
        lattice.filter, lambda: lattice.diagonal()[:, None], weight, first.normalization, first.self_term
    )


def _per_axis(theta: tuple[float, ...], shape: tuple[int, ...]) -> tuple[float, ...]:
    return theta if len(theta) == len(shape) else (theta[0],) * len(shape)


def _lattice(
    kernels: Sequence[Kernel], shapes: Sequence[tuple[int, ...]], sizes: Tensor, device: torch.device
) -> TorchLattice:
    """One lattice for the kernels; a single one's is kept, as on the CPU."""
    if len(kernels) > 1:
        window = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(device)
        return TorchLattice(_features(kernels, shapes, sizes, device), window)
    kept = kernels[0].__dict__.setdefault("_lattices", {})
    if device not in kept:
        kept[device] = TorchLattice(_features(kernels, shapes, sizes, device))
    lattice: TorchLattice = kept[device]
    return lattice


def _features(
    kernels: Sequence[Kernel], shapes: Sequence[tuple[int, ...]], sizes: Tensor, device: torch.device
) -> Tensor:
    """Of all windows, (N, d): the quotients of `Kernel.features`, rounded as there."""
    if not all(isinstance(kernel, Bilateral) for kernel in kernels):
        parts = [kernel.tensor_features() for kernel in kernels]
        return torch.cat([torch.as_tensor(p, device=device).T for p in parts]).contiguous()
    images: list[Bilateral] = list(kernels)  # type: ignore[arg-type]
    window = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(device)
    starts = (torch.cumsum(sizes, 0) - sizes).to(device)
    place = torch.arange(int(sizes.sum()), device=device) - starts[window]
    lengths = torch.tensor([kernel.shape for kernel in images], device=device)
    alphas = torch.tensor([_per_axis(kernel.theta_alpha, kernel.shape) for kernel in images], device=device)
    betas = torch.tensor([kernel.theta_beta for kernel in images], device=device)
    pixels = [torch.as_tensor(kernel.image).reshape(-1, kernel.image.shape[-1]) for kernel in images]
    same = {(p.device, p.dtype) for p in pixels}
    colours = torch.cat(pixels if len(same) == 1 else [p.to(device, torch.float32) for p in pixels])
    columns = []
    for axis in reversed(range(lengths.shape[1])):
        length = lengths[window, axis]
        rest = torch.div(place, length, rounding_mode="floor")
        # By a tensor on the device: dividing by a number, CUDA multiplies by its reciprocal, which rounds differently.
        columns.append((place - rest * length).to(torch.float32) / alphas[window, axis].to(torch.float32))
        place = rest
    colours = colours.to(device).to(torch.float32) / betas.to(torch.float32)[window][:, None]
    return torch.cat([torch.stack(columns, 1), colours], 1)
