"""Mean-field inference with parallel updates, P. Krähenbühl and V. Koltun, NIPS 2011, algorithm 1.

Two labels need one channel: with q the probability of label 1 and K the sum of all messages, the difference of the
labels' energies is linear in K·q, and for symmetric penalties such as Potts it depends on K·(q - 1/2) alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.crf.messages import GaussianMessage, LatticeMessage, Message

# Points per buffer where there is no image grid: small enough for the first-level cache.
_ROW = 1024
# Energy of the padding labels, beyond that of any real one.
_NEVER = np.finfo(np.float32).max
_NONE = np.empty(0, np.float32)
POTTS = np.array([[0, 1], [1, 0]], np.float32)

Track = Callable[[NDArray[np.float32]], None]


def infer(
    unary: NDArray[np.float32],
    messages: Sequence[Message],
    penalty: NDArray[np.float32] | None,
    iterations: int,
    track: Track | None = None,
) -> NDArray[np.float32]:
    """Marginals after `iterations` parallel updates from softmax(-unary).

    Args:
        unary: float32 (L, N), C-contiguous, finite energies.
        messages: the kernels, with normalisation and weight.
        penalty: float32 (L, L), entry (a, b) the penalty of label a beside label b; None for Potts (1 where a != b).
        iterations: at least 0.
        track: called with the marginals (L, N) of the start and of every iteration.

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
        return labels(unary, messages, penalty, iterations, track)

    def track_two(q: NDArray[np.float32]) -> None:
        track(np.stack([1 - q, q]))  # type: ignore[misc]

    mu = POTTS if penalty is None else penalty
    q = two_labels(unary[1] - unary[0], messages, mu, iterations, track_two if track else None)
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
) -> NDArray[np.float32]:
    """Probability of label 1, float32 (N,).

    Args:
        difference: float32 (N,), the energy of label 1 minus that of label 0.
        messages, iterations: as for `infer`.
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
        constant = difference + np.float32(a + b / 2) * sum(m.apply(ones)[0] for m in messages)
    own = _own((lattice, gaussian), b)
    walk = _Walk(lattice, gaussian, b, difference.size)
    state = np.empty_like(difference)
    for iteration in range(iterations + 1):
        base = constant if iteration else difference
        if iteration and others:
            base = constant + np.float32(b) * sum(m.apply(state[None])[0] for m in others)
        last = iteration == iterations
        walk.update(
            base, own, state, walk.width, iteration > 0, not last, last, *walk.lattice(), *walk.gaussian
        )
        if not last:
            walk.blur()
        if track:
            track(state if last else state + np.float32(0.5))
    return state


def labels(
    unary: NDArray[np.float32],
    messages: Sequence[Message],
    penalty: NDArray[np.float32] | None,
    iterations: int,
    track: Track | None = None,
) -> NDArray[np.float32]:
    """`infer` for any number of labels, whose probabilities are kept side by side for each pixel."""
    from crispmask.crf._lanes import shape_of

    count, n = unary.shape
    blocks, lanes = shape_of(count)
    energies = np.full((n, lanes), _NEVER, np.float32)
    energies[:, :count] = unary.T
    negative = np.empty((0, 0), np.float32)
    if penalty is not None:
        negative = np.zeros((count, lanes), np.float32)
        negative[:, :count] = -penalty.T
    lattice, gaussian, others = _split(messages)
    own = _own((lattice, gaussian), 1.0)
    walk = _Walk(lattice, gaussian, 1.0, n, lanes, blocks)
    state = np.empty((n, lanes), np.float32)
    for iteration in range(iterations + 1):
        extra = _NONE
        if iteration and others:
            channels = np.ascontiguousarray(state.T)
            extra = np.ascontiguousarray(sum(m.apply(channels) for m in others).T).reshape(-1)  # type: ignore[union-attr]
        write = iteration < iterations
        walk.update(
            energies.reshape(-1), extra, own, negative, state.reshape(-1), lanes, walk.width,
            iteration > 0, write, *walk.lattice(), *walk.gaussian,
        )  # fmt: skip
        if write:
            walk.blur()
        if track:
            track(_channels(state, count))
    return _channels(state, count)


def _channels(state: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The first `count` columns as rows; in pieces that fit a cache, three times faster than at once."""
    rows = np.empty((count, len(state)), np.float32)
    for start in range(0, len(state), 256):
        rows[:, start : start + 256] = state[start : start + 256, :count].T
    return rows


class _Walk:
    """Buffers of one inference, and the arguments of the compiled walk over the pixels.

    One lattice and one Gaussian take part in the walk itself; further kernels are filtered on their own.
    """

    def __init__(
        self,
        lattice: LatticeMessage | None,
        gaussian: GaussianMessage | None,
        factor: float,
        n: int,
        lanes: int = 1,
        blocks: int = 0,
    ) -> None:
        from crispmask.crf import _lattice_kernels, _meanfield_kernels

        corner_count = lattice.lattice.dimension + 1 if lattice else 0
        if lanes == 1:
            self.update = _meanfield_kernels.two_labels(corner_count)
            self._blur = _lattice_kernels.blur(1)
        else:
            self.update = _meanfield_kernels.labels(corner_count, blocks)
            self._blur = partial(_lattice_kernels.blur_lanes(blocks), lanes)
        if lattice is None:
            self._around = None
            self._fixed: tuple[Any, ...] = (
                np.float32(0), np.empty((n, 0), np.int32), np.empty((n, 0), np.float32), _NONE, _NONE
            )  # fmt: skip
            self._old = self._new = np.zeros(lanes, np.float32)
        else:
            source = lattice.lattice
            self._around = source.around
            weight = np.float32(factor * lattice.weight * source.alpha)
            self._fixed = (weight, source.corners, source.weights, lattice.pre, lattice.post)
            self._old = np.empty((source.vertices + 1) * lanes, np.float32)
            self._new = np.empty_like(self._old)
        if gaussian is None:
            self.gaussian: tuple[Any, ...] = (np.float32(0), *(_NONE,) * 6)
            self.width = min(_ROW, n)
        else:
            self.gaussian = (np.float32(factor * gaussian.weight), *gaussian.gaussian.arguments(lanes))
            self.width = gaussian.gaussian.shape[1]

    def lattice(self) -> tuple[Any, ...]:
        """Arguments for the lattice; its values are read from the blurred buffer and written to the other."""
        return (*self._fixed, self._old, self._new)

    def blur(self) -> None:
        """Blur what the walk has written, for the next walk to read."""
        if self._around is None:
            return
        self._blur(self._new, self._old, self._around, False)
        if len(self._around) % 2 == 0:  # an even number of swaps ends where it began
            self._old, self._new = self._new, self._old


def _split(
    messages: Sequence[Message],
) -> tuple[LatticeMessage | None, GaussianMessage | None, list[Message]]:
    """The first lattice, the first Gaussian, and all others."""
    lattice = next((m for m in messages if isinstance(m, LatticeMessage)), None)
    gaussian = next((m for m in messages if isinstance(m, GaussianMessage)), None)
    return lattice, gaussian, [m for m in messages if m is not lattice and m is not gaussian]


def _own(messages: Sequence[Message | None], factor: float) -> NDArray[np.float32]:
    """Own terms to take out of the messages, float32 (N,); empty if all are kept."""
    left_out = [m.own for m in messages if m is not None and not m.self_term]
    return np.asarray(np.float32(factor) * sum(left_out), np.float32) if left_out else _NONE
