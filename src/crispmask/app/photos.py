"""The photos that are open, of all visitors: a bounded number, in bounded memory."""

from __future__ import annotations

import ctypes
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from threading import Lock

from crispmask.app.scene import Photo
from crispmask.errors import CrispmaskError

MAX_PHOTOS = 64
MAX_BYTES = 1_000_000_000
"""Of all open photos; the one that was used longest ago is closed first. The newest stays whatever its size."""

IDLE_SECONDS = 3600.0
"""After so long without a request a photo is closed."""


class Closed(CrispmaskError):
    """A photo that is not open, or no longer."""


class Photos:
    """The open photos by their ids, which nobody can guess."""

    def __init__(self, most: int = MAX_PHOTOS, most_bytes: int = MAX_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._photos: OrderedDict[str, tuple[Photo, float]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._photos)

    def add(self, photo: Photo) -> None:
        """Open a photo."""
        with self._lock:
            self._photos[photo.id] = photo, time.monotonic()
        self.tidy()

    def get(self, key: str) -> Photo:
        """The photo of an id.

        Raises:
            Closed: there is none, or it was closed.
        """
        with self._lock:
            found = self._photos.get(key)
            if found is None:
                raise Closed("this photo is no longer open here: open it again")
            self._photos[key] = found[0], time.monotonic()
            self._photos.move_to_end(key)
            return found[0]

    def close(self, key: str) -> None:
        """Forget a photo, if it is open."""
        with self._lock:
            found = self._photos.pop(key, None)
        if found is not None:
            found[0].close()
            del found
            _give_back()

    def tidy(self) -> None:
        """Close photos that were idle too long, and those above the limits."""
        now = time.monotonic()
        with self._lock:
            total, closed = 0, []
            for number, (key, (photo, used)) in enumerate(reversed(list(self._photos.items()))):
                total += photo.bytes
                if number and (number >= self._most or total > self._most_bytes or now - used > IDLE_SECONDS):
                    closed.append(key)
            gone = [self._photos.pop(key)[0] for key in closed]
        if gone:
            while gone:
                gone.pop().close()
            _give_back()


def _give_back() -> None:
    """Return free memory to the system: the C library's allocator keeps what many threads have used."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)
