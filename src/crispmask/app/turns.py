"""Requests take turns: the processor and the memory are for one at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import HTTPException

from crispmask.app.photos import Closed
from crispmask.errors import CrispmaskError

WAITING = 24
"""Most requests that wait; further ones get status 503."""


class Turns:
    """Who may work now. One object is for all requests of a server."""

    def __init__(self, waiting: int = WAITING) -> None:
        self._turn, self._places = threading.Lock(), threading.BoundedSemaphore(waiting + 1)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Wait for earlier requests; errors of crispmask become responses."""
        if not self._places.acquire(blocking=False):
            raise HTTPException(503, "too many requests are waiting: try again later")
        try:
            with answered(), self._turn:
                yield
        finally:
            self._places.release()


@contextmanager
def answered() -> Iterator[None]:
    """Errors of crispmask become responses."""
    try:
        yield
    except Closed as error:
        raise HTTPException(404, str(error)) from None
    except CrispmaskError as error:
        raise HTTPException(422, str(error)) from None
    except MemoryError:
        raise HTTPException(422, "there is not enough memory for this image: scale it down") from None
