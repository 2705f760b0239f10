"""Refuses hostile requests: ASGI middleware in front of Gradio and the HTTP interface."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# Bytes of a JSON body: parameters and references to uploaded files; the page sends no larger ones.
_MAX_JSON = 2_000_000
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*:", re.IGNORECASE)

# The browser loads nothing from other servers: no fonts, scripts or images.
HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Middleware that limits the size of requests and adds `HEADERS` to every response.

    A body above the limit gets status 413. A JSON body with a URL in place of a file's path (``http://...``) gets 422,
    because Gradio would fetch it; so no URL is ever opened. Gradio itself refuses paths of files that were not
    uploaded.

    Args:
        app: the application behind the middleware.
        max_upload: most bytes of an upload.
    """

    def __init__(self, app: App, max_upload: int) -> None:
        self.app, self.max_upload = app, max_upload

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                taken = {k for k, _ in own}
                kept = [pair for pair in message.get("headers", []) if pair[0].lower() not in taken]
                message = {**message, "headers": [*kept, *own]}
            await send(message)

        if scope["method"] in ("POST", "PUT"):
            headers = {k.lower(): v for k, v in scope["headers"]}
            as_json = headers.get(b"content-type", b"").startswith(b"application/json")
            limit = _MAX_JSON if as_json else self.max_upload
            # The body, whose size is limited, is read before anything is sent, so that the status code can tell.
            body = await _body(receive, limit, headers.get(b"content-length", b""))
            if body is None:
                size = f"{limit / 1e6:.0f} MB" if limit >= 1e6 else f"{limit} bytes"
                await _refuse(send_with_headers, 413, f"the upload is larger than the limit of {size}")
                return
            if as_json and _names_an_address(body):
                await _refuse(send_with_headers, 422, "files must be uploaded: URLs are not opened")
                return
            receive = _replay(body, receive)
        await self.app(scope, receive, send_with_headers)


async def _body(receive: Receive, limit: int, announced: bytes) -> bytes | None:
    """The whole body, or None above the limit."""
    if announced.isdigit() and int(announced) > limit:
        return None
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


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


def _names_an_address(body: bytes) -> bool:
    """Whether a JSON text has a ``path`` that is a URL; False if it is not JSON."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return False
    todo = [content]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            path = item.get("path")
            # One letter before the colon is a drive of Windows, not a URL.
            if isinstance(path, str) and _ADDRESS.match(path) and not re.match(r"\s*[a-z]:", path, re.IGNORECASE):
                return True
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
    return False


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
