"""The permutohedral lattice: Gaussian filtering in a d-dimensional feature space, in time linear in points.

A. Adams, J. Baek and A. Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010;
as used for the dense CRF by P. Krähenbühl and V. Koltun, NIPS 2011, whose rounding, tie and blur order are kept.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.crf._threads import Map, add_up, bounds, check, strips, thread_pool
from crispmask.errors import ShapeError, ValueRangeError

MAX_DIMENSION = 64
# Up to here float32 holds lattice coordinates exactly; beyond, different points can get the same coordinates.
_MAX_COORDINATE = float(1 << 23)


class PermutohedralLattice:
    """Filter with the Gaussian kernel k(f_i, f_j) = exp(-|f_i - f_j|²/2), approximately.

    The lattice depends on the features only: once built, it can filter any number of channels, also from several
    threads at once. Its results have the same bits for any number of threads.

    Args:
        features: float32 (d, N), d from 1 to 64, already divided by the bandwidths.
        phantom: pad N to a multiple of four with points at the origin, which have no values but add vertices to the
            lattice. The SSE code of Krähenbühl and Koltun does that; it is needed only to reproduce its numbers.
        threads: number of threads that build the lattice.

    Attributes:
        dimension: d.
        size: N.
        vertices: M, the number of vertices of the lattice.
        corners: int32 (N, d + 1), the vertices of the simplex around each point.
        weights: float32 (N, d + 1), the point's barycentric weights for them.
        around: int32 (d + 1, M, 2), each vertex's neighbours along each axis, M where there is none.
        alpha: 1 / (1 + 2^-d), the factor on the filter's output.

    Raises:
        ShapeError: features that are not (d, N) with 1 <= d <= 64 and N >= 1.
        ValueRangeError: NaN or infinite features, or features too large for float32; a bad `threads`.
    """

    def __init__(self, features: ArrayLike, *, phantom: bool = False, threads: int = 1) -> None:
        from crispmask.crf import _lattice_filters, _lattice_kernels

        check(threads)
        array = _checked(features)
        self.dimension, self.size = array.shape
        d = self.dimension
        self.alpha = np.float32(1 / (1 + 2.0**-d))
        scale = _scale(d)
        strides, steps = _packing(array, scale)
        if phantom and self.size % 4:
            array = np.concatenate([array, np.zeros((d, 1), np.float32)], axis=1)
        self._kernels, self._filters = _lattice_kernels.make(d, len(strides)), _lattice_filters.make(d)
        corners = np.empty((array.shape[1], d + 1), np.int32)
        weights = np.empty((array.shape[1], d + 1), np.float32)
        spans = strips(array.shape[1], 1)

        def build(span: tuple[int, int]) -> tuple[Any, Any]:
            return self._kernels.build(array, scale, strides, steps, *span, corners, weights)

        with thread_pool(min(threads, len(spans))) as run:
            built = run(build, spans)
            keys, table = built[0] if len(built) == 1 else self._merge(run, spans, [part for part, _ in built], corners)
            self.around = np.empty((d + 1, len(keys), 2), np.int32)
            run(lambda j: self._kernels.neighbours(keys, table, steps, j, self.around[j]), range(d + 1))
        self.corners, self.weights = corners[: self.size], weights[: self.size]
        self.vertices = len(keys)

    def _merge(
        self, run: Map, spans: list[tuple[int, int]], parts: list[NDArray[np.int64]], corners: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The keys and the hash table of all strips together, numbered as if the lattice had been built at once."""
        from crispmask.crf._lattice_kernels import rename

        most = sum(len(part) for part in parts)
        keys = np.empty((most, parts[0].shape[1]), np.int64)
        table = np.full(1 << (2 * most - 1).bit_length(), -1, np.int32)
        names = [np.empty(len(part), np.int32) for part in parts]
        count = 0
        for part, given in zip(parts, names, strict=True):
            count = self._kernels.merge(part, keys, count, table, given)
        run(lambda i: rename(names[i], corners[slice(*spans[i])]), range(1, len(spans)))
        return keys[:count], table

    def filter(
        self, values: ArrayLike, out: NDArray[np.float32] | None = None, *, threads: int = 1
    ) -> NDArray[np.float32]:
        """K applied to every channel: out[c, i] = Σ_j k(f_i, f_j) · values[c, j], including the term j = i.

        K is not normalised.

        Args:
            values: float32 (C, N).
            out: float32 (C, N), C-contiguous, to write the result into; may be `values` itself.
            threads: how many may work on it.

        Returns:
            float32 (C, N).

        Raises:
            ShapeError: values or out of another shape; out of another dtype or layout.
            ValueRangeError: a bad `threads`.
        """
        return self._filter(values, out, threads, reverse=False)

    def transpose_filter(
        self, values: ArrayLike, out: NDArray[np.float32] | None = None, *, threads: int = 1
    ) -> NDArray[np.float32]:
        """The transpose of K, which blurs along the axes in the opposite order; otherwise as `filter`."""
        return self._filter(values, out, threads, reverse=True)

    def diagonal(self) -> NDArray[np.float32]:
        """K(i, i) for each point: float32 (N,). For an isolated point it is 0.6 to 0.9, where the Gaussian has 1."""
        out = np.empty(self.size, np.float32)
        self._filters.diagonal(self.corners, self.weights, self.around, out)
        out *= self.alpha
        return out

    def _filter(
        self, values: ArrayLike, out: NDArray[np.float32] | None, threads: int, *, reverse: bool
    ) -> NDArray[np.float32]:
        from crispmask.crf import _lattice_filters

        check(threads)
        array = np.ascontiguousarray(values, np.float32)
        if array.ndim != 2 or array.shape[1] != self.size:
            raise ShapeError(f"values must have shape (channels, {self.size}), got {array.shape}")
        if out is None:
            out = np.empty_like(array)
        elif out.shape != array.shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ShapeError(f"out must be a C-contiguous float32 array of shape {array.shape}")
        simplices = self.corners, self.weights
        spans = strips(self.size, 1)
        threads = min(threads, len(spans))
        parts = np.empty((len(spans), self.vertices + 1), np.float32)
        spare = np.empty(self.vertices + 1, np.float32)
        with thread_pool(threads) as run:
            for channel, result in zip(array, out, strict=True):
                run(lambda i: self._filters.splat(*simplices, channel, *spans[i], parts[i]), range(len(spans)))  # noqa: B023
                sums = add_up(run, parts, threads)
                blurred, _ = blur(run, _lattice_filters.blur(1), sums, spare, self.around, threads, reverse=reverse)
                run(lambda span: self._filters.gather(*simplices, blurred, self.alpha, *span, result), spans)  # noqa: B023
        return out


def blur(
    run: Map,
    kernel: Any,
    values: NDArray[np.float32],
    spare: NDArray[np.float32],
    around: NDArray[np.int32],
    threads: int,
    *,
    reverse: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Blur values along all axes with a kernel of `_lattice_filters`: the result, and the array that is now spare."""
    axes, count = around.shape[:2]
    if threads == 1 and not reverse:
        kernel(values, spare, around, 0, count)
        return (values, spare) if axes % 2 == 0 else (spare, values)
    for j in reversed(range(axes)) if reverse else range(axes):
        run(lambda span: kernel(values, spare, around[j : j + 1], *span), bounds(count, threads))  # noqa: B023
        values, spare = spare, values
    return values, spare


def _checked(features: ArrayLike) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        array: NDArray[np.float32] = np.ascontiguousarray(features, np.float32)
    if array.ndim != 2:
        raise ShapeError(f"features must have shape (d, N), got {array.shape}")
    d, n = array.shape
    if not 1 <= d <= MAX_DIMENSION:
        raise ShapeError(f"features must have 1 to {MAX_DIMENSION} dimensions, got {d}; reduce them, say by PCA")
    if n < 1 or n >= 2**31:
        raise ShapeError(f"features must hold at least one point and fewer than 2^31, got {n}")
    return array


def _scale(d: int) -> NDArray[np.float32]:
    """Factors that turn features of unit bandwidth into lattice coordinates."""
    c = float(np.float32(math.sqrt(2 / 3) * (d + 1)))
    return np.array([1 / math.sqrt((i + 1) * (i + 2)) * c for i in range(d)], np.float32)


def _packing(features: NDArray[np.float32], scale: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How coordinates become keys: strides (words, d + 1), and steps (words, d + 1) back along each axis.

    Keys are numbers in mixed radix. Each radix covers all coordinates of corners and their neighbours, so that no two
    vertices have the same key. One 64-bit word is enough unless there are many features over a wide range.
    """
    d, radices = len(scale), _radices(features, scale)
    words: list[list[int]] = [[0] * (d + 1)]
    radix = 1
    for j in range(d):
        if radix * radices[j] > 2**62:
            words.append([0] * (d + 1))
            radix = 1
        words[-1][j] = radix
        radix *= radices[j]
    strides = np.array(words, np.int64)
    return strides, strides.sum(axis=1, keepdims=True) - (d + 1) * strides


def _radices(features: NDArray[np.float32], scale: NDArray[np.float32]) -> list[int]:
    """How many values each of the first d lattice coordinates can take, corners and neighbours included."""
    d = len(scale)
    low, high = features.min(axis=1).astype(np.float64) * scale, features.max(axis=1).astype(np.float64) * scale
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueRangeError("features must be finite numbers: found NaN or infinity (is a bandwidth zero?)")
    radices = []
    for j in range(d):  # e_j = Σ_{k >= j} g_k - j · g_{j-1}
        span = float((high[j:] - low[j:]).sum()) + (j * float(high[j - 1] - low[j - 1]) if j else 0.0)
        radices.append(math.ceil(span * 1.001) + 6 * (d + 1))
    reach = float(np.maximum(abs(low), abs(high)).sum()) * (d + 1)
    if reach > _MAX_COORDINATE:
        raise ValueRangeError(
            f"features reach {float(abs(features).max()):.3g} bandwidths from the origin, more than float32 can place "
            "on the lattice; use larger bandwidths or shift the features towards zero"
        )
    return radices


def warm(d: int) -> None:
    """Compile what a lattice of dimension `d` needs, or load it from the cache."""
    lattice: Any = PermutohedralLattice(np.zeros((d, 1), np.float32))
    lattice.filter(np.ones((1, 1), np.float32))
