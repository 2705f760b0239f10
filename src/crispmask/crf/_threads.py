"""Strips of points and the threads that work on them; what is computed depends on the strips, never on the threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from crispmask.errors import ValueRangeError

# An image of fewer points is one strip: there, handing work out costs more than a thread gains.
_POINTS = 1 << 18
# Every strip has lattice values of its own to splat into, which are then added up: more strips, more additions.
_MAX_STRIPS = 4

Map = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]


def bounds(count: int, parts: int) -> list[tuple[int, int]]:
    """`count` things in `parts` half-open ranges of nearly equal size, in order."""
    edges = [count * part // parts for part in range(parts + 1)]
    return [(a, b) for a, b in pairwise(edges) if b > a]


def strips(rows: int, width: int) -> list[tuple[int, int]]:
    """How rows of `width` points are divided: ranges of rows."""
    return bounds(rows, max(1, min(_MAX_STRIPS, rows * width // _POINTS)))


@contextmanager
def team(threads: int) -> Iterator[Map]:
    """A map over `threads` threads; the calling thread alone if that is one."""
    if threads == 1:
        yield lambda work, items: [work(item) for item in items]
        return
    with ThreadPoolExecutor(threads) as pool:
        yield lambda work, items: list(pool.map(work, items))


def check(threads: int) -> int:
    """The number, if it is one of threads; else ValueRangeError."""
    if isinstance(threads, bool) or not hasattr(threads, "__index__") or threads < 1:
        raise ValueRangeError(f"threads must be a whole number of at least 1, got {threads!r}")
    return int(threads)


def add_up(run: Map, parts: Sequence[Any] | NDArray[Any], threads: int) -> Any:
    """The first of equally long flat arrays, to which the others have been added in order."""

    def add(span: tuple[int, int]) -> None:
        start, stop = span
        for other in parts[1:]:
            parts[0][start:stop] += other[start:stop]

    if len(parts) > 1:
        run(add, bounds(len(parts[0]), threads))
    return parts[0]
