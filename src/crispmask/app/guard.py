"""Refuses hostile requests: ASGI middleware in front of the page and the HTTP interface."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from email.message import Message as Header
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from crispmask.app.routes import JSON, ROUTES, Route, find
from crispmask.errors import DataError
from crispmask.structured import parse_json

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_JSON = 1_000_000
"""Bytes of a JSON body: parameters and strokes of a brush; the page sends no larger ones."""

MAX_HELD = 10
"""Uploads of the largest size that are held in memory at the same time, all visitors together."""

BODY_SECONDS = 120.0
"""Longest time for a body to arrive: 40 MB at 3 Mbit/s."""

# The browser loads nothing from other servers and runs nothing but the page's own scripts. Other pages neither embed
# nor read this.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Refused(Exception):
    """A request that is not passed on: status code, sentence, and headers of the response."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers


class Guard:
    """Middleware that passes on the requests of a list of routes, and adds `HEADERS` to every response.

    Refused are, with a status code and one sentence: other paths (404) and methods (405), pages of other servers that
    send something (403), bodies of another type (415), above the limit (413), too slow (408) or too many at the same
    time (503), and JSON that is damaged (400).

    Args:
        app: the application behind the middleware.
        max_upload: most bytes of an upload.
        body_seconds: longest time for a body to arrive.
        max_json: most bytes of a JSON body.
        routes: the requests that are passed on; by default the page's and the HTTP interface's.
    """

    def __init__(
        self,
        app: App,
        max_upload: int,
        body_seconds: float = BODY_SECONDS,
        max_json: int = MAX_JSON,
        routes: Sequence[Route] = ROUTES,
    ) -> None:
        self.app, self.max_upload, self.body_seconds = app, max_upload, body_seconds
        self.max_json, self.routes = max_json, routes
        self._held = 0  # bytes of the bodies of unfinished requests

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page opens no WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                taken = {k for k, _ in own}
                kept = [pair for pair in message.get("headers", []) if not _is_ours(pair[0].lower(), taken)]
                message = {**message, "headers": [*kept, *own]}
            await send(message)

        held = 0
        try:
            headers = _headers(scope)
            route = self._checked(scope, headers)
            scope["query_string"] = _passed_on(scope["query_string"], route)
            if route.content_type is not None:
                # The body, whose size is limited, is read before anything is sent, so that the status code can tell.
                body = await self._body(receive, route, headers)
                held = len(body)
                self._held += held
                if route.content_type == JSON:
                    _check_json(body)
                receive = _replay(body, receive)
        except Refused as refused:
            self._held -= held
            await _refuse(send_with_headers, refused)
            return
        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            self._held -= held

    def _checked(self, scope: MutableMapping[str, Any], headers: dict[str, str]) -> Route:
        """The route of a request, of which everything but the body is as it must be."""
        method, path = scope["method"], scope["path"]
        route = find(path, self.routes)
        if route is None:
            raise Refused(404, "there is nothing at this address")
        if method not in route.methods:
            allowed = ", ".join(route.methods)
            raise Refused(405, f"this address takes {allowed} only", allow=allowed)
        if route.content_type is None:
            if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
                raise Refused(400, "this address takes no body")
            return route
        if not _from_here(headers):
            raise Refused(403, "this came from a page of another server: open the page at its own address")
        if _content_type(headers) != route.content_type:
            raise Refused(415, f"this address takes the content type {route.content_type} only")
        if "content-encoding" in headers:
            raise Refused(415, "send the body as it is, without Content-Encoding")
        return route

    async def _body(self, receive: Receive, route: Route, headers: dict[str, str]) -> bytes:
        limit = self.max_json if route.content_type == JSON else self.max_upload
        size = f"{limit / 1e6:.0f} MB" if limit >= 1e6 else f"{limit} bytes"
        too_large = Refused(413, f"the upload is larger than the limit of {size}")
        announced = headers.get("content-length", "0")
        if not announced.isdigit() or len(announced) > 18 or int(announced) > limit:
            raise too_large
        parts: list[bytes] = []
        total = 0
        try:
            async with asyncio.timeout(self.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Refused(400, "the upload broke off")
                    part = message.get("body", b"")
                    parts.append(part)
                    total += len(part)
                    self._held += len(part)
                    if total > limit:
                        raise too_large
                    if self._held > MAX_HELD * max(self.max_upload, self.max_json):
                        raise Refused(503, "too many uploads at the same time: try again later")
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise Refused(408, f"the upload took longer than {self.body_seconds:.0f} seconds") from None
        finally:
            self._held -= total


def _check_json(body: bytes) -> None:
    """Refuse a body that is not JSON."""
    try:
        parse_json(body, "the body")
    except DataError as error:
        raise Refused(400, str(error)) from None


def _is_ours(name: bytes, own: set[bytes]) -> bool:
    """Whether a header of a response is the guard's business; pages of other servers must not read responses."""
    return name in own or name.startswith(b"access-control-")


def _headers(scope: MutableMapping[str, Any]) -> dict[str, str]:
    """The headers of a request by their names in lower case; those that decide something may come only once."""
    found: dict[str, str] = {}
    for key, value in scope["headers"]:
        name = key.decode("latin-1").lower()
        if name in found and name in ("content-type", "content-length", "host", "origin", "content-encoding"):
            raise Refused(400, f"the header {name} comes twice")
        found[name] = value.decode("latin-1")
    return found


def _passed_on(query: bytes, route: Route) -> bytes:
    """The part of a query that a route takes."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        raise Refused(400, "the query after the question mark is damaged") from None
    return urlencode([pair for pair in pairs if pair[0] in route.query]).encode()


def _content_type(headers: dict[str, str]) -> str | None:
    """Type and subtype of the body in lower case, without parameters (RFC 9110, 8.3); None where there is none.

    A text in another encoding than UTF-8 counts as none, and so does a form without a boundary.
    """
    header = Header()
    try:
        header["content-type"] = headers["content-type"]
        charset, boundary = header.get_content_charset("utf-8"), header.get_boundary()
        kind = header.get_content_type() if "/" in headers["content-type"] else ""
    except (KeyError, ValueError, LookupError):
        return None
    if charset not in ("utf-8", "us-ascii") or (kind.startswith("multipart/") and not boundary):
        return None
    return kind


def _from_here(headers: dict[str, str]) -> bool:
    """Whether a request does not come from a page of another server; programs that are no browsers name no page."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or _is_here(origin, headers)


def _is_here(url: str, headers: dict[str, str]) -> bool:
    """Whether a URL leads to this server, or to the proxy in front of it."""
    if url.startswith("/") and not url.startswith(("//", "/\\")):
        return True
    try:
        parts = urlsplit(url)
        where = parts.netloc.lower()
    except ValueError:
        return False
    # Pages of other servers cannot set x-forwarded-host: it would need a permission that this server never gives.
    hosts = {headers.get(name, "").lower() for name in ("host", "x-forwarded-host")} - {""}
    return parts.scheme in ("http", "https") and where in hosts


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive function that returns the body first, and then the messages that follow it."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, refused: Refused) -> None:
    body = json.dumps({"detail": str(refused)}).encode()
    # Not closed: a client that is still sending would not see the response. `Connection` closes it after a while.
    fixed = {"content-type": "application/json", "content-length": str(len(body))}
    headers = [(key.encode(), value.encode()) for key, value in {**fixed, **refused.headers}.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
