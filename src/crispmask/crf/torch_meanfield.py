"""Mean field on torch tensors, on any device: `meanfield` with points first, for whole images and for many windows.

Windows of any sizes are one list of points: one lattice holds them all, the window's number keeping them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import prod
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from crispmask.crf import _tensor_kernels
from crispmask.crf.gaussian import TRUNCATE
from crispmask.crf.normalization import Normalization

_EPSILON = 1e-20  # as in `normalization.factors`

Filter = Callable[[Tensor], Tensor]
Watch = Callable[[Tensor], None]


@dataclass(frozen=True)
class Message:
    """Q -> post · K (pre · Q), less the own term where that is left out.

    Attributes:
        filter: K, (N, C) to (N, C).
        pre: (N, 1), or None for ones.
        post: (N, 1), weight included.
        own: (N, 1), what a point's message holds of its own value, for each unit of it.
        self_term: whether that is kept.
    """

    filter: Filter
    pre: Tensor | None
    post: Tensor
    own: Callable[[], Tensor]
    self_term: bool

    def __call__(self, values: Tensor) -> Tensor:
        """The message of values (N, C), same shape."""
        scaled = values if self.pre is None else values * self.pre
        received = self.filter(scaled).mul_(self.post)
        return received if self.self_term else received - self.own() * values


def message(
    kernel: Filter,
    diagonal: Callable[[], Tensor],
    weight: Tensor,
    normalization: Normalization,
    self_term: bool,
) -> Message:
    """A kernel's message.

    Args:
        kernel: K, (N, C) to (N, C).
        diagonal: gives K(i, i), (N, 1); called only where it is needed.
        weight: (N, 1).
        normalization, self_term: as for `crispmask.crf.Kernel`.
    """
    pre, post = None, weight
    if normalization != "none":
        sums = kernel(torch.ones_like(weight)) + _EPSILON
        if normalization == "symmetric":
            pre = torch.rsqrt(sums)
            post = weight * pre
        elif normalization == "before":
            pre = 1 / sums
        else:
            post = weight / sums
    kept: list[Tensor] = []

    def own() -> Tensor:
        if not kept:
            kept.append(diagonal() * post if pre is None else diagonal() * pre * post)
        return kept[0]

    return Message(kernel, pre, post, own, self_term)


def among(kernel: Filter, points: Tensor, counts: Tensor) -> Filter:
    """A filter of some points as one of all: the rest send nothing and get zero.

    Args:
        kernel: (K, C) to (K, C).
        points: int64 (K,), the numbers of the points that it knows.
        counts: (K, 1), how many points each of them stands for.
    """

    def filtered(values: Tensor) -> Tensor:
        received = kernel(values.index_select(0, points) * counts)
        return torch.zeros_like(values).index_copy_(0, points, received)

    return filtered


class Windows:
    """Points of windows in one list, window by window and row by row.

    Args:
        shapes: of each window, such as (H, W); at least one, all with as many axes.
        device: where the tensors shall be.

    Attributes:
        shapes: as given.
        window: int64 (N,), the window of each point.
        places: of each axis, int64 (N,): a point's row, column and so on.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], device: torch.device) -> None:
        self.shapes = shapes
        self.places: list[Tensor] = []
        if len(shapes) == 1:  # in few launches
            (shape,) = shapes
            self.window = torch.zeros(1, dtype=torch.int64, device=device).expand(prod(shape))
            for axis, length in enumerate(shape):
                along = torch.arange(length, device=device).view(-1, *(1,) * (len(shape) - 1 - axis))
                self.places.append(along.expand(shape).reshape(-1))
            return
        count = [prod(shape) for shape in shapes]
        sizes = torch.tensor(count, device=device)
        numbers = torch.arange(len(shapes), device=device)
        self.window = torch.repeat_interleave(numbers, sizes, output_size=sum(count))
        rest = torch.arange(sum(count), device=device) - (torch.cumsum(sizes, 0) - sizes)[self.window]
        lengths = torch.tensor(list(shapes), device=device)
        for axis in reversed(range(lengths.shape[1])):
            length = lengths[self.window, axis]
            outer = torch.div(rest, length, rounding_mode="floor")
            self.places.insert(0, rest - outer * length)
            rest = outer


class GridGaussian:
    """exp(-Σ (p_i - p_j)²/2θ²) on grids of any number of axes, cut at four θ: `GaussianFilter` for many windows.

    Args:
        windows: their grids.
        thetas: of each window, of each axis the standard deviation in steps of the grid.
        like: a tensor of the dtype and on the device to work on.
    """

    def __init__(self, windows: Windows, thetas: Sequence[Sequence[float]], like: Tensor) -> None:
        shapes = windows.shapes
        axes = len(shapes[0])
        self._shape = tuple(max(shape[a] for shape in shapes) for a in range(axes))
        self._windows = len(shapes)
        places = [sorted(set(column)) for column in zip(*thetas, strict=True)]
        equal = all(len(some) == 1 for some in places)
        self._taps = [
            _kept_taps(places[a][0], self._shape[a], like.device, like.dtype)
            if equal
            else _taps([theta[a] for theta in thetas], self._shape[a]).to(like)
            for a in range(axes)
        ]
        self._places = None if all(s == self._shape for s in shapes) else _boxed(windows, self._shape)
        self._kernels = _tensor_kernels.for_device(like.device)

    def filter(self, values: Tensor) -> Tensor:
        """(N, C) to (N, C); not normalised."""
        channels = values.shape[1]
        if not values.numel():
            return values
        grid = values
        if self._places is not None:  # windows of several sizes: side by side in boxes of the largest, zero beside them
            grid = values.new_zeros(self._windows * prod(self._shape), channels).index_copy_(0, self._places, values)
        outer, inner = self._windows, len(grid) // self._windows * channels
        for taps, length in zip(self._taps, self._shape, strict=True):
            inner //= length
            grid = self._kernels.convolve(grid.reshape(outer, length, inner), taps)
            outer *= length
        grid = grid.reshape(-1, channels)
        return grid if self._places is None else grid.index_select(0, self._places)


@lru_cache(maxsize=64)
def _kept_taps(theta: float, length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The weights of one bandwidth, which are few, where they are needed."""
    return _taps([theta], length).to(device, dtype)


def _taps(bandwidths: Sequence[float], length: int) -> Tensor:
    """Weights at distances 0, 1, .. of each bandwidth, zero beyond four of its own: float64 (B, 1 + radius)."""
    thetas = torch.tensor(bandwidths, dtype=torch.float64)
    radii = torch.ceil(TRUNCATE * thetas).clamp(max=length - 1)
    distance = torch.arange(int(radii.max()) + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (distance / thetas[:, None]) ** 2)
    return torch.where(distance <= radii[:, None], taps, 0)


def _boxed(windows: Windows, largest: tuple[int, ...]) -> Tensor:
    """Where each point of the windows lies among boxes of the largest shape: int64 (N,)."""
    place = windows.window
    for length, along in zip(largest, windows.places, strict=True):
        place = place * length + along
    return place


def infer(
    energies: Tensor,
    messages: Sequence[Message],
    penalty: Tensor | None,
    iterations: int,
    watch: Watch | None = None,
    *,
    graph: bool = False,
) -> Tensor:
    """Marginals after `iterations` parallel updates from softmax(-energies).

    Args:
        energies: (N, L).
        messages: the kernels, with normalisation and weight.
        penalty: (L, L), entry (a, b) the penalty of label a beside label b; None for Potts.
        iterations: at least 0.
        watch: called with the marginals (N, L) of the start and of every iteration.
        graph: on CUDA, record one update and replay it; see `repeat`.

    Returns:
        (N, L).
    """
    if energies.shape[1] == 1:
        q = torch.ones_like(energies)
        for _ in range(iterations + 1 if watch else 0):
            watch(q)  # type: ignore[misc]
        return q
    if energies.shape[1] == 2:
        see = None if watch is None else lambda q: watch(torch.cat([1 - q, q], 1))
        q = two_labels(energies[:, 1:] - energies[:, :1], messages, penalty, iterations, see, graph=graph)
        return torch.cat([1 - q, q], 1)
    negative = None if penalty is None else -penalty.T
    state = torch.softmax(-energies, 1)

    def update() -> None:
        received = _total(messages, state)
        exponent = (received if negative is None else received @ negative) - energies
        torch.softmax(exponent, 1, out=state)

    repeat(update, iterations if messages else 0, state, watch, graph)
    return state


def two_labels(
    difference: Tensor,
    messages: Sequence[Message],
    penalty: Tensor | None,
    iterations: int,
    watch: Watch | None = None,
    *,
    graph: bool = False,
) -> Tensor:
    """Probability of label 1, (N, 1), from its energy minus that of label 0, (N, 1): one channel does for two labels.

    The difference of energies is difference + a·K1 + b·Kq = difference + (a + b/2)·K1 + b·K(q - 1/2).
    """
    (m00, m01), (m10, m11) = ((0.0, 1.0), (1.0, 0.0)) if penalty is None else penalty.tolist()
    a, b = m10 - m00, m11 - m01 - m10 + m00
    constant = -difference
    state = torch.sigmoid(constant)
    if a + b / 2 != 0 and messages:
        constant = constant - (a + b / 2) * _total(messages, torch.ones_like(difference))

    def update() -> None:
        torch.sigmoid(torch.sub(constant, _total(messages, state - 0.5), alpha=b), out=state)

    repeat(update, iterations if messages else 0, state, watch, graph)
    return state


def repeat(update: Callable[[], None], times: int, state: Tensor, watch: Watch | None, graph: bool) -> None:
    """Call `update`, which changes `state` in place, so many times.

    With `graph`, on CUDA: the first call runs as it is and compiles what is new, the second is recorded as a graph, and
    the rest replay it, which spares the launches. Recording costs about as much as two updates.
    """
    if watch:
        watch(state)
    if graph and state.is_cuda and times >= _WORTH_RECORDING and not watch:
        update()
        with _recording, torch.cuda.device(state.device):
            recorded = _recorded(update)
            for _ in range(times - 1):  # recording runs nothing
                recorded.replay()
            torch.cuda.current_stream().synchronize()  # the next graph takes this one's memory
        return
    for _ in range(times):
        update()
        if watch:
            watch(state)


# Updates from which on a graph is recorded.
_WORTH_RECORDING = 4
# One at a time in a process.
_recording = Lock()


def _recorded(update: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """The launches of an update. Unlike `torch.cuda.graph`, it gives no cached memory back, which would take longer."""
    recorded = torch.cuda.CUDAGraph()
    here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
    pool, _ = _pool(torch.cuda.current_device())
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        recorded.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            update()
        finally:
            recorded.capture_end()
    here.wait_stream(aside)
    return recorded


@cache
def _pool(device: int) -> tuple[Any, Any]:
    """Memory for graphs, and a graph of nothing much that keeps it from one to the next."""
    pool, kept = torch.cuda.graph_pool_handle(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(torch.cuda.Stream()):
        kept.capture_begin(pool=pool, capture_error_mode="thread_local")
        held = torch.zeros(1, device=device)
        kept.capture_end()
    return pool, (kept, held)


def _total(messages: Sequence[Message], values: Tensor) -> Tensor:
    """The sum of all messages."""
    first, *others = messages
    total = first(values)
    for other in others:
        total = total + other(values)
    return total
