"""Strips of points and the thread pool that processes them; results depend on the strips, never on the threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from crispmask.arguments import whole

# Images with fewer points are one strip, because starting threads would take longer than they save.
_POINTS = 1 << 18
# Each strip splats into lattice values of its own, which are added up afterwards: more strips, more additions.
_MAX_STRIPS = 4

Map = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]


def bounds(count: int, parts: int) -> list[tuple[int, int]]:
    """`count` items as `parts` half-open ranges of nearly equal size, in order; empty ranges are left out."""
    edges = [count * part // parts for part in range(parts + 1)]
    return [(a, b) for a, b in pairwise(edges) if b > a]


def strips(rows: int, width: int) -> list[tuple[int, int]]:
    """The strips of an image with `rows` rows of `width` points, as ranges of rows."""
    return bounds(rows, max(1, min(_MAX_STRIPS, rows * width // _POINTS)))


@contextmanager
def thread_pool(threads: int) -> Iterator[Map]:
    """A map over `threads` threads; with one thread, the calling thread does the work."""
    if threads == 1:
        yield lambda work, items: [work(item) for item in items]
        return
    with ThreadPoolExecutor(threads) as pool:
        yield lambda work, items: list(pool.map(work, items))


def check(threads: int) -> int:
    """A number of threads; ValueRangeError if it is not a whole number of at least 1."""
    return whole(threads, "threads", 1)


def add_up(run: Map, parts: Sequence[Any] | NDArray[Any], threads: int) -> Any:
    """Add flat arrays of equal length to the first one, in order, and return that."""

    def add(span: tuple[int, int]) -> None:
        start, stop = span
        for other in parts[1:]:
            parts[0][start:stop] += other[start:stop]

    if len(parts) > 1:
        run(add, bounds(len(parts[0]), threads))
    return parts[0]
