"""Connections of the web server that end where nobody asks for anything."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 20.0
"""Longest time from the opening of a connection, or from the last response, until the head of a request is complete."""

MAX_HEAD = 1 << 16
"""Most bytes of the head of a request."""

MAX_CONNECTIONS = 400
"""Further ones are answered with status 503. A page holds up to six."""


class Connection(H11Protocol):
    """uvicorn's connection, which closes unless a request's head is complete within `seconds`.

    uvicorn itself waits without end for the first request, for one that arrives byte by byte, and for the rest of a
    body that was refused.
    """

    seconds = REQUEST_SECONDS
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The connection is open."""
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        """A response is sent, and the next request may come."""
        self._wait()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless a response has begun; the request that it belongs to gets no second one."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(self.seconds, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
