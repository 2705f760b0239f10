"""Mean-field inference with parallel updates, P. Krähenbühl and V. Koltun, NIPS 2011, algorithm 1.

Two labels need one channel: with q the probability of label 1 and K the sum of all messages, the difference of the
labels' energies is linear in K·q, and for symmetric penalties such as Potts it depends on K·(q - 1/2) alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.crf._threads import Map, add_up, strips, thread_pool
from crispmask.crf.lattice import blur
from crispmask.crf.messages import GaussianMessage, LatticeMessage, Message

# Points per buffer where there is no image grid: they fit into the first-level cache.
_ROW = 1024
# Energy of the padding labels, higher than any other.
_NEVER = np.finfo(np.float32).max
_NONE = np.empty(0, np.float32)
_NO_POINTS, _NO_ENDS = np.empty(0, np.int32), np.empty(0, np.int64)
POTTS = np.array([[0, 1], [1, 0]], np.float32)

Track = Callable[[NDArray[np.float32]], None]


def infer(
    unary: NDArray[np.float32],
    messages: Sequence[Message],
    penalty: NDArray[np.float32] | None,
    iterations: int,
    track: Track | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Marginals after `iterations` parallel updates from softmax(-unary).

    Args:
        unary: float32 (L, N), C-contiguous, finite energies.
        messages: the kernels, with normalisation and weight.
        penalty: float32 (L, L), entry (a, b) the penalty of label a beside label b; None for Potts (1 where a != b).
        iterations: at least 0.
        track: called with the marginals (L, N) of the start and of every iteration.
        threads: at least 1; the result has the same bits for any number.

    Returns:
        float32 (L, N).
    """
    count = len(unary)
    if count == 1:
        marginals = np.ones_like(unary)
        for _ in range(iterations + 1 if track else 0):
            track(marginals)  # type: ignore[misc]
        return marginals
    if count > 2:
        return labels(unary, messages, penalty, iterations, track, threads)

    def track_two(q: NDArray[np.float32]) -> None:
        track(np.stack([1 - q, q]))  # type: ignore[misc]

    mu = POTTS if penalty is None else penalty
    q = two_labels(unary[1] - unary[0], messages, mu, iterations, track_two if track else None, threads)
    result = np.empty_like(unary)
    result[1] = q
    np.subtract(np.float32(1), q, out=result[0])
    return result


def two_labels(
    difference: NDArray[np.float32],
    messages: Sequence[Message],
    penalty: NDArray[np.float32],
    iterations: int,
    track: Track | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Probability of label 1, float32 (N,).

    Args:
        difference: float32 (N,), the energy of label 1 minus that of label 0.
        messages, iterations, threads: as for `infer`.
        penalty: float32 (2, 2).
        track: called with the probabilities (N,).
    """
    # Energy difference = difference + a·K1 + b·Kq = difference + (a + b/2)·K1 + b·K(q - 1/2).
    a = float(penalty[1, 0] - penalty[0, 0])
    b = float(penalty[1, 1] - penalty[0, 1] - penalty[1, 0] + penalty[0, 0])
    lattice, gaussian, others = _split(messages)
    constant = difference
    if a + b / 2 != 0:
        ones = np.ones((1, difference.size), np.float32)
        constant = difference + np.float32(a + b / 2) * sum(m.apply(ones, threads)[0] for m in messages)
    own = _own((lattice, gaussian), b)
    state = np.empty_like(difference)
    with _walk(lattice, gaussian, b, difference.size, threads) as walk:
        for iteration in range(iterations + 1):
            base = constant if iteration else difference
            if iteration and others:
                base = constant + np.float32(b) * sum(m.apply(state[None], threads)[0] for m in others)
            last = iteration == iterations
            walk.update((base, own), state, read=iteration > 0, write=not last)
            if track:
                track(state if last else state + np.float32(0.5))
    return state


def labels(
    unary: NDArray[np.float32],
    messages: Sequence[Message],
    penalty: NDArray[np.float32] | None,
    iterations: int,
    track: Track | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """`infer` for any number of labels; the probabilities of a pixel are adjacent in memory."""
    from crispmask.crf._lanes import shape_of
    from crispmask.crf._layout import to_channels, to_rows

    count, n = unary.shape
    blocks, lanes = shape_of(count)
    energies = _aligned(n * lanes)
    to_rows(unary, energies, lanes, _NEVER)
    negative = np.empty((0, 0), np.float32)
    if penalty is not None:
        negative = np.zeros((count, lanes), np.float32)
        negative[:, :count] = -penalty.T
    lattice, gaussian, others = _split(messages, among=False)
    own = _own((lattice, gaussian), 1.0)
    state = _aligned(n * lanes)
    marginals = state.reshape(n, lanes)
    with _walk(lattice, gaussian, 1.0, n, threads, lanes, blocks) as walk:
        for iteration in range(iterations + 1):
            extra = _NONE
            if iteration and others:
                channels = np.ascontiguousarray(marginals.T)
                received = sum(m.apply(channels, threads) for m in others)
                extra = np.ascontiguousarray(received.T).reshape(-1)  # type: ignore[union-attr]
            inputs = (energies, extra, own, negative)
            walk.update(inputs, state, read=iteration > 0, write=iteration < iterations)
            if track:
                track(to_channels(state, np.empty_like(unary), lanes))
    return to_channels(state, np.empty_like(unary), lanes)


def _aligned(size: int) -> NDArray[np.float32]:
    """Float32 (size,) that starts at the beginning of a cache line, so that registers seldom cross two lines."""
    raw = np.empty(size + 16, np.float32)
    start = -raw.ctypes.data % 64 // 4
    return raw[start : start + size]


@contextmanager
def _walk(
    lattice: LatticeMessage | None,
    gaussian: GaussianMessage | None,
    factor: float,
    n: int,
    threads: int,
    lanes: int = 1,
    blocks: int = 0,
) -> Iterator[_Walk]:
    """A walk over the pixels with a thread pool."""
    width = gaussian.gaussian.shape[1] if gaussian else min(_ROW, n)
    spans = strips(-(-n // width), width)
    with thread_pool(min(threads, len(spans))) as run:
        yield _Walk(lattice, gaussian, factor, n, (width, lanes, blocks), spans, min(threads, len(spans)), run)


class _Walk:
    """The buffers of one inference, and the arguments of the compiled update.

    One lattice and one Gaussian are part of the update itself; further kernels are filtered separately. A large image
    is processed in strips of rows, in parallel; each strip splats into lattice values of its own.
    """

    def __init__(
        self,
        lattice: LatticeMessage | None,
        gaussian: GaussianMessage | None,
        factor: float,
        n: int,
        layout: tuple[int, int, int],
        spans: list[tuple[int, int]],
        threads: int,
        run: Map,
    ) -> None:
        from crispmask.crf import _lattice_filters, _meanfield_kernels

        self._width, lanes, blocks = layout
        self._length = self._width * lanes
        self._spans, self._threads, self._run = spans, threads, run
        self._known: tuple[Any, ...]
        corner_count = lattice.lattice.dimension + 1 if lattice else 0
        if lanes == 1:
            among = lattice.among if lattice else None
            self._update = _meanfield_kernels.two_labels(corner_count, among is not None)
            self._known = (_NO_POINTS, _NO_ENDS) if among is None else _by_row(among.points, n, self._width)
            self._blur = _lattice_filters.blur(1)
        else:
            self._update = _meanfield_kernels.labels(corner_count, blocks, lanes)
            self._known = ()
            self._blur = partial(_lattice_filters.blur_lanes(blocks), lanes)
        if lattice is None:
            self._around = None
            self._lattice: tuple[Any, ...] = (
                np.float32(0), np.empty((n, 0), np.int32), np.empty((n, 0), np.float32), _NONE, _NONE
            )  # fmt: skip
            values = 0
        else:
            source = lattice.lattice
            self._around = source.around
            weight = np.float32(factor * lattice.weight * source.alpha)
            self._lattice = (weight, source.corners, source.weights, lattice.pre, lattice.post)
            values = (source.vertices + 1) * lanes
        self._old, self._new = _aligned(values), [_aligned(values) for _ in spans]
        if gaussian is None:
            self._gaussian: tuple[Any, ...] = (np.float32(0), *(_NONE,) * 6)
            self._reach = 0
        else:
            self._gaussian = (np.float32(factor * gaussian.weight), *gaussian.gaussian.arguments(lanes))
            self._reach = len(gaussian.gaussian.taps[0]) - 1

    def update(self, inputs: tuple[Any, ...], state: NDArray[np.float32], *, read: bool, write: bool) -> None:
        """One update of all pixels; with `write`, also compute the blurred lattice values for the next update."""
        reach = self._reach if read else 0
        beside = [(self._copy(state, first - reach, first), self._copy(state, last, last + reach))
                  for first, last in self._spans]  # fmt: skip

        def strip(i: int) -> None:
            self._update(
                *inputs, state, *beside[i], self._width, *self._spans[i], read, write,
                *self._known, *self._lattice, self._old, self._new[i], *self._gaussian,
            )  # fmt: skip

        self._run(strip, range(len(self._spans)))
        if write and self._around is not None:
            new = add_up(self._run, self._new, self._threads)
            self._old, self._new[0] = blur(self._run, self._blur, new, self._old, self._around, self._threads)

    def _copy(self, state: NDArray[np.float32], first: int, last: int) -> NDArray[np.float32]:
        """A copy of the state's rows from `first` to `last`, as far as they exist."""
        return state[max(0, first) * self._length : last * self._length].copy()


def _by_row(points: NDArray[np.int32], n: int, width: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The points, and where those of each row of `width` of all n points begin and end among them."""
    return points, np.searchsorted(points, np.arange(-(-n // width) + 1) * width)


def _split(
    messages: Sequence[Message], *, among: bool = True
) -> tuple[LatticeMessage | None, GaussianMessage | None, list[Message]]:
    """The first lattice, the first Gaussian, and all others; without `among`, a lattice that knows all points."""
    lattice = next((m for m in messages if isinstance(m, LatticeMessage) and (among or m.among is None)), None)
    gaussian = next((m for m in messages if isinstance(m, GaussianMessage)), None)
    return lattice, gaussian, [m for m in messages if m is not lattice and m is not gaussian]


def _own(messages: Sequence[Message | None], factor: float) -> NDArray[np.float32]:
    """The self terms to subtract from the messages, float32 (N,); empty if all are kept."""
    left_out = [m.own for m in messages if m is not None and not m.self_term]
    return np.asarray(np.float32(factor) * sum(left_out), np.float32) if left_out else _NONE
