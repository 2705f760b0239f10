"""The door of the web page: requests as bytes on a socket, for whatever the page's guard lets through and beside it."""

from __future__ import annotations

import json
import random
import re
import socket
import threading
from contextlib import suppress
from functools import cache
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from unittest import mock

from tests.fuzz.calls import Case, Finder
from tests.fuzz.files import IMAGE_FORMATS, altered_text, encoded
from tests.fuzz.mutate import NUMBERS, VALUES, altered, damaged, text

from crispmask.errors import CrispmaskError

PATIENCE = 0.2
"""Seconds for a response to begin before the client has nothing more to send: the server may wait for the rest."""

PHOTO = "PHOTO-----------------"
"""In a path: the id of an open photo."""

EVERY = 20
"""So many requests are about one photo, which they change."""

GETS = (
    "/", "/settings", "/static/app.js", "/static/app.css", "/static/../x.js", "/samples/astronaut.jpg", "/robots.txt",
    "/favicon.ico", "/api/openapi.json", "/photos", "/photos.zip?ids=x", f"/photos.zip?ids={PHOTO}",
    f"/photos/{PHOTO}/shown", f"/photos/{PHOTO}/files/results.json", f"/photos/{PHOTO}/files/mask.png?object=1",
    f"/photos/{PHOTO}/files/masks.png", f"/photos/{PHOTO}/files/params.toml?object=x", "/../etc/passwd",
    "/gradio_api/file=http://127.0.0.1:9/x", "/static/%2e%2e/x", f"/photos/{PHOTO}/files/cutout.png?object=-1",
)  # fmt: skip
FORMS = ("/api/segment", "/api/refine", "/api/box", "/photos", f"/photos/{PHOTO}/mask")
STROKE = {"radius": 2, "points": [[5, 6], [9, 9]]}
EDITS = (
    {"do": "detect", "score": 0.5, "classes": ["cat"], "tiles": 1, "step": 1},
    {"do": "edge", "edge": 0.5, "object": 1, "step": 2},
    {"do": "params", "method": "fixed", "values": {"iterations": 1, "theta_beta": 4}, "step": 3},
    {"do": "click", "at": [8, 12]},
    {"do": "box", "box": [4, 6, 20, 16]},
    {"do": "marks", "inside": [STROKE], "outside": [{"radius": 1.5, "points": [[25, 20], [30, 22]]}], "step": 4},
    {"do": "paint", "object": 1, "strokes": [STROKE], "add": True, "step": 5},
    {"do": "delete", "object": 1},
    {"do": "undo"}, {"do": "redo"}, {"do": "close"}, {"do": "undo", "have": [1, 2]},
)  # fmt: skip
JSON, FORM = "application/json", "multipart/form-data; boundary=cut"
TYPES = (JSON, "Application/JSON; charset=utf-8", "application/x+json", FORM, "text/plain", "")
HEADERS = (
    "Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Content-Encoding: gzip", "Expect: 100-continue",
    "Transfer-Encoding: chunked", "Connection: Upgrade\r\nUpgrade: websocket", "Range: bytes=5-2", "X: " + "x" * 5000,
    "Accept-Encoding: gzip;q=x", "Cookie: a=\xff", "If-None-Match: *", "Content-Length: 3", "Host: evil.example",
    "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: \x01", "Content-Type: application/json",
)  # fmt: skip


def requests(dice: random.Random) -> Case:
    body, kind = b"", ""
    match dice.randrange(8):
        case 0 | 1:
            method, path = "GET", dice.choice(GETS)
        case 2 | 3 | 4:
            method, path, kind = "POST", f"/photos/{PHOTO}/edit", JSON
            edit = dice.choice(EDITS)
            body = altered_text(edit, dice) if dice.random() < 0.9 else text(edit)
        case _:
            method, path, kind = "POST", dice.choice(FORMS), FORM
            body = _form(path, dice)
    if dice.random() < 0.1:
        method = dice.choice(("HEAD", "PUT", "OPTIONS", "TRACE", "get", "\x00", "A" * 300))
    if dice.random() < 0.1:
        path = damaged(path.encode(), dice).decode("latin-1")
    if dice.random() < 0.1:
        kind = dice.choice(TYPES)
    if dice.random() < 0.1:
        body = damaged(body, dice)
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"Content-Length: {len(body)}"] if method != "GET" else []
    lines += [dice.choice(HEADERS)] if dice.random() < 0.15 else []
    head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
    return (damaged(head, dice) if dice.random() < 0.05 else head) + body, _answered


def _form(path: str, dice: random.Random) -> bytes:
    fields = {"mask" if path.endswith("mask") else "image": _picture(dice)}
    if path.endswith("segment"):
        fields |= {name: _one(dice) for name in ("score", "classes", "tiles") if dice.random() < 0.3}
    if path.endswith("refine"):
        fields["mask"] = _picture(dice)
    if path.endswith("box"):
        corners = [dice.choice((*NUMBERS, 4, 6, 20, 16)) if dice.random() < 0.3 else k for k in (4, 6, 20, 16)]
        fields["box"] = ",".join(str(k)[:400] for k in corners).encode()
    if path == "/photos":
        settings = {"method": "fixed", "values": {"iterations": 1}, "score": 0.5, "classes": [], "edge": 0.0}
        fields["settings"] = altered_text(settings, dice) if dice.random() < 0.7 else text(settings)
    elif dice.random() < 0.9:  # else the network, which takes longer
        fields["params"] = text(altered({"iterations": 1, "theta_beta": 4}, dice))
    if dice.random() < 0.1:
        del fields[dice.choice(list(fields))]
    return form(fields)


def form(fields: dict[str, bytes]) -> bytes:
    """A form of files and texts, with the boundary of `FORM`."""
    parts = [
        f'--cut\r\nContent-Disposition: form-data; name="{name}"'.encode()
        + (f'; filename="{name}"'.encode() if name in ("image", "mask") else b"")
        + b"\r\n\r\n"
        + value
        for name, value in fields.items()
    ]
    return b"\r\n".join([*parts, b"--cut--\r\n"])


def _picture(dice: random.Random) -> bytes:
    made = encoded(dice.choice(IMAGE_FORMATS))
    return damaged(made, dice) if dice.random() < 0.6 else made


def _one(dice: random.Random) -> bytes:
    return str(dice.choice((0.5, 1, "cat", "dog", *VALUES)))[:400].encode("utf-8", "replace")


@cache
def port() -> int:
    """The port of the real server, with a detector that takes no time."""
    from crispmask.app import server

    ready, found = threading.Event(), []

    def on_ready(address: str) -> None:
        found.append(int(address.rpartition(":")[2]))
        ready.set()

    options: dict[str, Any] = {"port": 0, "max_pixels": 100_000, "max_upload": 1_000_000, "on_ready": on_ready}
    with mock.patch.object(server, "load_detector", return_value=Finder()):
        threading.Thread(target=server.serve, kwargs=options, daemon=True).start()
        if not ready.wait(60):
            raise RuntimeError("the page did not start")
    return found[0]


class _Photo:
    """The id of an open photo."""

    id, used = "", EVERY

    def __call__(self) -> str:
        if self.used >= EVERY:
            settings = {"method": "fixed", "values": {"iterations": 1}, "score": 0.5, "classes": [], "edge": 0.0}
            _, answer = _post("/photos", FORM, form({"image": encoded("PNG"), "settings": text(settings)}))
            self.id, self.used = json.loads(answer).get("id", PHOTO), 0
        self.used += 1
        return self.id


_photo = _Photo()


def warm() -> None:
    """Start the server, and let it load and compile what it needs."""
    ask = f"GET /photos.zip?ids={_photo()} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    _exchange(ask.encode(), whole=True, seconds=300)
    for edit in EDITS:
        _post(f"/photos/{_photo()}/edit", JSON, text(edit))
    for path in ("/api/segment", "/api/box", "/api/refine"):
        mask = {"mask": encoded("PNG")} if path.endswith("refine") else {}
        _post(path, FORM, form({"image": encoded("PNG"), "box": b"4,6,20,16", **mask}))


def _post(path: str, kind: str, body: bytes) -> tuple[int, bytes]:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return _exchange(f"{head}Connection: close\r\n\r\n".encode() + body, whole=True, seconds=300)


def _answered(file: Path, content: bytes) -> Any:
    """The status of the response, or None where it depends on earlier requests, or on how long the server waits.

    Raises:
        CrispmaskError: a request that was refused well.
        RuntimeError: one that broke the server.
    """
    whole, about_a_photo = _is_whole(content), PHOTO.encode() in content
    if about_a_photo:
        content = content.replace(PHOTO.encode(), _photo().encode())
    status, answer = _exchange(content, whole)
    if status >= 500 and status != 503:
        raise RuntimeError(f"status {status}: {answer[:300]!r}")
    if about_a_photo or not whole:
        return None
    if status >= 400:
        raise CrispmaskError(f"status {status}")
    return status


def _exchange(content: bytes, whole: bool, seconds: float = 20) -> tuple[int, bytes]:
    """Status and body of the response to a request; of one that is not whole 0 where the server closes."""
    with socket.create_connection(("127.0.0.1", port()), timeout=seconds) as connection:
        try:
            connection.sendall(content)
            if not whole:
                connection.settimeout(PATIENCE)
                with suppress(TimeoutError):
                    connection.recv(1, socket.MSG_PEEK)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(seconds)
            response = HTTPResponse(connection, method="HEAD" if content.startswith(b"HEAD") else None)
            response.begin()
            return response.status, response.read()
        except (HTTPException, ConnectionError):
            if whole:
                raise
            return 0, b""


def _is_whole(content: bytes) -> bool:
    """Whether a request has its end, and no header that says otherwise or that may come only once."""
    head, end, body = content.partition(b"\r\n\r\n")
    lengths = re.findall(rb"\r\ncontent-length: (\d{1,9})(?=\r|$)", head, re.IGNORECASE)
    unclear = re.search(rb"transfer-encoding|upgrade|expect|[^\x20-\x7e\r\n]|\n(?<!\r\n)", head, re.IGNORECASE)
    length = int(lengths[0]) if len(lengths) == 1 else 0
    return bool(end and not unclear and len(lengths) < 2 and length == len(body))
