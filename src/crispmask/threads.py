"""Pools of threads that nobody waits for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def interruptible_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that is left without waiting for its threads: what has not begun is cancelled, the rest ends by itself.

    An interruption waits for none of the work. And a generator that is abandoned can be closed at any moment: Python's
    garbage collector may do so in a thread that is just starting, where waiting for another thread never ends.
    """
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
