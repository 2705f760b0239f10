"""`DenseCRF` and many windows at once on a torch device: kernels become tensors, one lattice holds all windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispmask.crf import torch_meanfield
from crispmask.crf.kernels import Bilateral, Gaussian, Kernel
from crispmask.crf.tensors import host
from crispmask.crf.torch_lattice import TorchLattice
from crispmask.crf.torch_meanfield import GridGaussian, Message, Windows
from crispmask.params import CRFParams

AnyKernel = Kernel | Gaussian
_Filters = tuple[torch_meanfield.Filter, Callable[[], Tensor]]

# Points that share one lattice at most: beyond, windows are solved in several lots.
_MOST_POINTS = 1 << 24
# Points times labels up to which updates are recorded as a graph.
_FEW_VALUES = 1 << 21


def placed(values: Any, device: torch.device) -> Tensor:
    """An array or a tensor as float32 on the device."""
    return _as_tensor(values).to(device, torch.float32)


def _as_tensor(values: Any) -> Tensor:
    """An array or a tensor as a tensor; an array that must not be written is copied, as torch asks for."""
    return torch.as_tensor(np.require(values, requirements="W") if isinstance(values, np.ndarray) else values)


def infer(
    energies: Tensor,
    grid: tuple[int, ...],
    kernels: Sequence[AnyKernel],
    penalty: Any,
    iterations: int,
    watch: Callable[[Tensor], None] | None = None,
    *,
    graph: bool | None = None,
) -> Tensor:
    """Marginals after `iterations` updates.

    Args:
        energies: float32 (L, N), on the device to work on.
        grid: the shape of the points.
        kernels: as for `DenseCRF`.
        penalty: float32 (L, L) array, or None for Potts.
        iterations: at least 0.
        watch: called with the marginals (L, N) of the start and of every iteration.
        graph: see `torch_meanfield.repeat`; by default where it pays.

    Returns:
        float32 (L, N).
    """
    windows = Windows([grid], energies.device)
    messages = [_message([kernel], windows, energies) for kernel in kernels if kernel.weight > 0]
    mu = None if penalty is None else torch.as_tensor(host(penalty)).to(energies)
    see = None if watch is None else lambda q: watch(q.T)
    graph = _pays(energies.numel()) if graph is None else graph
    return torch_meanfield.infer(energies.T.contiguous(), messages, mu, iterations, see, graph=graph).T


def infer_windows(
    log_odds: Sequence[Any],
    kernels: Sequence[Sequence[AnyKernel]],
    iterations: int,
    device: torch.device,
    *,
    graph: bool | None = None,
) -> list[Tensor]:
    """Foreground probabilities of many windows under Potts models of two labels, as one lattice on the device.

    Args:
        log_odds: of each window, float32 (H, W) array or tensor.
        kernels: of each window. Windows whose kernels are alike in number, kind, normalisation and self term share a
            lattice (of some 16 million points at most); their weights and bandwidths may differ.
        iterations: at least 0.
        device: where to work.
        graph: see `torch_meanfield.repeat`; by default where it pays.

    Returns:
        Of each window, float32 (H, W) on the device.
    """
    results: list[Tensor | None] = [None] * len(log_odds)
    used = [[kernel for kernel in some if kernel.weight > 0] for some in kernels]
    for lot in _lots(log_odds, used):
        odds = [_as_tensor(log_odds[i]) for i in lot]
        shapes = [tuple(o.shape) for o in odds]
        flat = torch.cat([o.reshape(-1) for o in odds]).to(device, torch.float32)[:, None]
        stacks = zip(*(used[i] for i in lot), strict=True)
        windows = Windows(shapes, device)
        messages = [_message(stack, windows, flat) for stack in stacks] if len(flat) else []
        recorded = _pays(len(flat)) if graph is None else graph
        q = torch_meanfield.two_labels(-flat, messages, None, iterations, graph=recorded)[:, 0]
        parts = torch.split(q, [prod(shape) for shape in shapes])
        for i, part, shape in zip(lot, parts, shapes, strict=True):
            results[i] = part.view(shape)
    return [result for result in results if result is not None]


def infer_points(
    log_odds: Tensor,
    colours: Tensor,
    windows: Windows,
    theta_alphas: Sequence[float],
    params: CRFParams,
    counts: Tensor | None = None,
) -> Tensor:
    """`infer_windows` for windows whose points lie in one list on the device, with one setting for all of them.

    Args:
        log_odds: float32 (N,).
        colours: float32 (N, C).
        windows: where the points are.
        theta_alphas: of each window, in its pixels: it takes the place of the one in `params`.
        params: weights, the other bandwidths, normalisation, self term and iterations.
        counts: of the bilateral kernel, float32 (N,); see `Kernel`.

    Returns:
        Foreground probabilities, float32 (N,).
    """
    options = params.normalization, params.self_term
    ones = torch.ones_like(log_odds)[:, None]
    messages = []
    if params.iterations and params.bilateral_weight > 0:
        alphas = [(alpha,) * len(windows.places) for alpha in theta_alphas]
        features = _placed(colours, windows, alphas, [params.theta_beta] * len(alphas))
        weight = ones * params.bilateral_weight
        filters = _filters(features, windows, counts)
        messages.append(torch_meanfield.message(*filters, weight, *options))
    if params.iterations and params.smoothness_weight > 0:
        thetas = [(params.theta_gamma,) * len(windows.places)] * len(windows.shapes)
        gaussian, weight = GridGaussian(windows, thetas, log_odds), ones * params.smoothness_weight
        messages.append(torch_meanfield.message(gaussian.filter, lambda: ones, weight, *options))
    graph = _pays(len(log_odds))
    return torch_meanfield.two_labels(-log_odds[:, None], messages, None, params.iterations, graph=graph)[:, 0]


def _filters(features: Tensor, windows: Windows, counts: Tensor | None) -> _Filters:
    """The filter of a lattice for features (N, d), (N, C) to (N, C), and what gives its diagonal (N, 1)."""
    groups = windows.window if len(windows.shapes) > 1 else None
    if counts is None:
        whole = TorchLattice(features, groups)
        return whole.filter, lambda: whole.diagonal()[:, None]
    points = torch.nonzero(counts)[:, 0]
    some = counts[points][:, None]
    lattice = TorchLattice(features[points], None if groups is None else groups[points])

    def diagonal() -> Tensor:
        everywhere = torch.zeros_like(counts)[:, None]
        return everywhere.index_copy_(0, points, lattice.diagonal()[:, None] * some)

    return torch_meanfield.among(lattice.filter, points, some), diagonal


def fetched(values: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[NDArray[np.float32]]:
    """Values of windows that follow one another, (N,), as arrays of these shapes: one transfer for all."""
    # Into memory that the device writes to directly; other memory is copied twice.
    there = torch.empty(values.shape, dtype=values.dtype, pin_memory=values.is_cuda)
    flat = there.copy_(values).numpy()
    ends = np.cumsum([prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]


def _pays(values: int) -> bool:
    """Whether launching the kernels one by one would take longer than they do."""
    return values <= _FEW_VALUES


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
    counted = isinstance(kernel, Kernel) and kernel.among is not None
    return channels, counted, kernel.normalization, kernel.self_term


def _message(kernels: Sequence[AnyKernel], windows: Windows, like: Tensor) -> Message:
    """The message of windows' kernels of one kind, whose weights and bandwidths may differ."""
    first = kernels[0]
    weight = _each([kernel.weight for kernel in kernels], windows)[:, None]
    if isinstance(first, Gaussian):
        shape = windows.shapes[0]
        thetas = [_per_axis(kernel.theta_gamma, shape) for kernel in kernels]  # type: ignore[union-attr]
        gaussian = GridGaussian(windows, thetas, like)
        ones = torch.ones_like(weight)
        return torch_meanfield.message(gaussian.filter, lambda: ones, weight, first.normalization, first.self_term)
    some: Sequence[Kernel] = kernels  # type: ignore[assignment]
    if some[0].among is None:
        lattice = _lattice(some, windows)
        filters: _Filters = lattice.filter, lambda: lattice.diagonal()[:, None]
    else:
        filters = _filters(_features(some, windows), windows, _counts(some, windows))
    return torch_meanfield.message(*filters, weight, first.normalization, first.self_term)


def _counts(kernels: Sequence[Kernel], windows: Windows) -> Tensor:
    """Of all windows' points, float32 (N,)."""
    each = [kernel.among.spread(kernel.among.counts) for kernel in kernels if kernel.among is not None]
    return torch.from_numpy(np.concatenate(each)).to(windows.window.device)


def _each(numbers: Sequence[float], windows: Windows) -> Tensor:
    """A number of each window, for each of its points: float32 (N,)."""
    device = windows.window.device
    if len(numbers) == 1:
        return torch.full((1,), numbers[0], dtype=torch.float32, device=device).expand(windows.window.shape)
    return torch.tensor(numbers, dtype=torch.float32, device=device)[windows.window]


def _per_axis(theta: tuple[float, ...], shape: tuple[int, ...]) -> tuple[float, ...]:
    return theta if len(theta) == len(shape) else (theta[0],) * len(shape)


def _lattice(kernels: Sequence[Kernel], windows: Windows) -> TorchLattice:
    """One lattice for the kernels; a single one's is kept, as on the CPU."""
    if len(kernels) > 1:
        return TorchLattice(_features(kernels, windows), windows.window)
    device = windows.window.device
    kept = kernels[0].__dict__.setdefault("_lattices", {})
    if device not in kept:
        kept[device] = TorchLattice(_features(kernels, windows))
    lattice: TorchLattice = kept[device]
    return lattice


def _features(kernels: Sequence[Kernel], windows: Windows) -> Tensor:
    """Of all windows, (N, d): the quotients of `Kernel.features`, rounded as there."""
    device = windows.window.device
    if not all(isinstance(kernel, Bilateral) for kernel in kernels):
        parts = [kernel.tensor_features() for kernel in kernels]
        return torch.cat([torch.as_tensor(p, device=device).T for p in parts]).contiguous()
    images: list[Bilateral] = list(kernels)  # type: ignore[arg-type]
    alphas = [_per_axis(kernel.theta_alpha, kernel.shape) for kernel in images]
    pixels = [_as_tensor(kernel.image).reshape(-1, kernel.image.shape[-1]) for kernel in images]
    if len({(p.device, p.dtype) for p in pixels}) > 1:
        pixels = [p.to(device, torch.float32) for p in pixels]
    colours = torch.cat(pixels).to(device).to(torch.float32)
    return _placed(colours, windows, alphas, [kernel.theta_beta for kernel in images])


def _placed(colours: Tensor, windows: Windows, alphas: Sequence[tuple[float, ...]], betas: Sequence[float]) -> Tensor:
    """Places and colours of all windows' points, divided by the bandwidths of each: (N, d)."""
    # Divided by tensors on the device: for a number CUDA multiplies by its reciprocal, which rounds differently.
    columns = [
        windows.places[axis].to(torch.float32) / _each([alpha[axis] for alpha in alphas], windows)
        for axis in reversed(range(len(windows.places)))
    ]
    colours = colours / _each(betas, windows)[:, None]
    return torch.cat([torch.stack(columns, 1), colours], 1)
