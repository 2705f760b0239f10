"""Hostile requests, as bytes on a socket: HTTP libraries would tidy them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from crispmask.app.connection import Connection
from crispmask.app.guard import MAX_JSON, Guard

ID = "x" * 22
EDIT = f"/photos/{ID}/edit"
CLICK = {"do": "click", "at": [1, 2]}


def raw(server: str, head: str, body: bytes = b"", host: str | None = None) -> tuple[int, str]:
    """Status and body of the response to a request of these very bytes; "\\n" stands for the end of a line."""
    where = urlsplit(server)
    lines = head.strip().split("\n")
    lines.insert(1, f"Host: {host or where.netloc}")
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        response = HTTPResponse(connection, method=lines[0].partition(" ")[0])
        response.begin()
        return response.status, response.read().decode("utf-8", "replace")


def post(server: str, path: str, content_type: str, body: bytes, *more: str) -> tuple[int, str]:
    lines = [f"POST {path} HTTP/1.1", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *more]
    return raw(server, "\n".join(lines), body)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Another server: its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"secret")

        def log_message(self, *arguments: object) -> None:
            pass

    other = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{other.server_port}/x.png", asked
    other.shutdown()
    other.server_close()


SPELLINGS = (
    "application/json",
    "Application/JSON",
    "APPLICATION/json ; Charset=UTF-8",
    "application/json;charset=utf-8;x=y",
    "application/x+json",
    "application/json+json",
    "application/vnd.api+json",
    " application/json",
    "text/json",
    "application/json; charset=utf-16",
    "application/json, text/plain",
    "application/json\tx",
    "multipart/form-data; boundary=x",
    "text/plain",
    "",
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_of_the_type_opens_an_address(server, elsewhere, spelling):
    url, asked = elsewhere
    item = {"path": url, "url": url}
    for body in ({**CLICK, "image": item}, {**CLICK, "at": [item]}, {**CLICK, "have": [item], "do": item}, [item]):
        status, answer = post(server, EDIT, spelling, json.dumps(body).encode())
        assert status in (404, 415), answer
        assert "detail" in answer
    time.sleep(0.1)
    assert asked == []


@pytest.mark.parametrize("spelling", ["Application/JSON", "application/json; charset=UTF-8", "application/x+json"])
def test_the_limit_of_json_holds_for_every_spelling(server, spelling):
    body = json.dumps({**CLICK, "more": "x" * MAX_JSON}).encode()
    status, answer = post(server, EDIT, spelling, body)
    assert status == (415 if "+" in spelling else 413)
    assert "1 MB" in answer or "application/json" in answer


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /static/{url}",
        "HEAD /static/{url}",
        "GET /static/{quoted}",
        "GET /samples/%68ttp{rest}",
        "GET /samples/HTTP{rest}",
        "GET //samples/{url}",
        "GET /static/../samples/{url}",
        "GET /photos/{url}/shown",
        "GET /photos/xxxxxxxxxxxxxxxxxxxxxx/files/{quoted}",
        "GET /photos/xxxxxxxxxxxxxxxxxxxxxx/shown?url={quoted}",
        "GET /photos.zip?ids={quoted}",
        "GET /file={url}",
        "GET /proxy={url}",
        "GET /?image={quoted}",
        "GET /settings?image={quoted}",
        "GET {url}",
    ],
)
def test_no_address_is_opened_by_its_path(server, elsewhere, request_line):
    url, asked = elsewhere
    line = request_line.format(url=url, quoted=quote(url, safe=""), rest=url.removeprefix("http"))
    status, answer = raw(server, f"{line} HTTP/1.1")
    assert "secret" not in answer
    assert status == (200 if "?image" in line else 404)
    time.sleep(0.1)
    assert asked == []


@pytest.mark.parametrize(
    "path",
    [
        "/photos/x/edit",
        f"/photos/{ID}x/edit",
        f"/photos/{ID}/edit/",
        f"/photos/{ID}",
        f"/photos/{ID}/files/",
        f"/photos/{ID}/files/x.exe",
        f"/photos/{ID}/files/..%2fx.png",
        "/static/",
        "/static/../guard.py",
        "/static/..%2fguard.py",
        "/static/%2e%2e/guard.py",
        "/static/index.html",
        "/static/.hidden",
        "/static/app.js%00",
        "/static//app.js",
        "/samples/LICENSES.md",
        "/samples/",
        "/api/login",
        "/login",
        "/config",
        "/monitoring",
        "/docs",
        "/openapi.json",
        "/%2e%2e/etc/passwd",
        "*",
    ],
)
def test_what_the_page_does_not_ask_for_is_not_there(server, path):
    for method in ("GET", "POST"):
        status, answer = raw(server, f"{method} {path} HTTP/1.1\nContent-Length: 0\nContent-Type: application/json")
        assert status == 404
        assert "detail" in answer


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW"])
def test_other_methods_are_refused(server, method):
    for path in ("/", "/api/segment", "/photos", EDIT):
        assert raw(server, f"{method} {path} HTTP/1.1\nContent-Length: 0")[0] == 405
    assert raw(server, "GET /api/segment HTTP/1.1")[0] == 405
    assert raw(server, f"HEAD /photos/{ID}/files/mask.png HTTP/1.1")[0] == 405  # it would take as long as a GET
    assert raw(server, "POST / HTTP/1.1\nContent-Length: 0")[0] == 405


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ("Origin: http://evil.example", True),
        ("Origin: null", True),
        ("Origin: http://127.0.0.1:1", True),
        ("Origin: http://{netloc}.evil.example", True),
        ("Origin: http://evil@{netloc}", True),
        ("Origin: file://{netloc}", True),
        ("Sec-Fetch-Site: cross-site", True),
        ("Sec-Fetch-Site: same-site", True),
        ("Origin: http://{netloc}", False),
        ("Origin: https://page.example\nX-Forwarded-Host: page.example", False),
        ("Sec-Fetch-Site: same-origin", False),
        ("X-Whatever: x", False),
    ],
)
def test_pages_of_other_servers_cannot_post(server, headers, refused):
    line = headers.format(netloc=urlsplit(server).netloc)
    for path, content_type in (
        (EDIT, "application/json"),
        ("/photos", "multipart/form-data; boundary=x"),
        ("/api/box", "multipart/form-data; boundary=x"),
    ):
        status, answer = post(server, path, content_type, b"{}", *line.split("\n"))
        assert (status == 403) == refused, answer
    answer = httpx.get(f"{server}/settings", headers={"origin": "http://localhost:3000"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../etc/passwd", "c:\\x.png", "\\\\host\\x", "x\0y.png", "a/../b.png", "."]
)
def test_names_of_files_are_no_paths(server, name):
    """A name stays a name, and in an archive it becomes one of a folder beside the others."""
    tiny = png(np.full((40, 60, 3), 90, np.uint8))
    photos = [httpx.post(f"{server}/photos", files={"image": (name, tiny)}, timeout=60).json()["id"] for _ in range(2)]
    answer = httpx.get(f"{server}/photos.zip", params={"ids": ".".join(photos)}, timeout=60)
    assert answer.status_code == 200
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    folders = {entry.partition("/")[0] for entry in names}
    assert len(folders) == 2
    assert all(re.fullmatch(r"[\w-]+", folder) for folder in folders)
    assert all(entry.count("/") <= 2 and ".." not in entry and "\\" not in entry for entry in names)


def test_a_photo_is_for_those_who_know_its_address(server):
    tiny = png(np.full((40, 60, 3), 90, np.uint8))
    first, second = (httpx.post(f"{server}/photos", files={"image": tiny}, timeout=60).json()["id"] for _ in range(2))
    assert first != second  # not a hash of the file
    assert httpx.get(f"{server}/photos/{first}/shown").headers["content-type"] == "image/jpeg"
    answer = httpx.post(f"{server}{EDIT}", json=CLICK)
    assert answer.status_code == 404
    assert "open it again" in answer.json()["detail"]
    assert httpx.post(f"{server}/photos/{first}/edit", json={"do": "close"}).json() == {}
    assert httpx.get(f"{server}/photos/{first}/shown").status_code == 404
    assert httpx.get(f"{server}/photos/{second}/shown").status_code == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\nContent-Length: 5", 400),
        ("GET / HTTP/1.1\nTransfer-Encoding: chunked", 400),
        (f"POST {EDIT} HTTP/1.1\nContent-Type: application/json\nContent-Length: -5", 400),
        (f"POST {EDIT} HTTP/1.1\nContent-Type: application/json\nContent-Length: 9999999999999", 413),
        ("POST /api/box HTTP/1.1\nContent-Type: multipart/form-data\nContent-Length: 0", 415),
        ("POST /api/box HTTP/1.1\nContent-Type: multipart/form-data; boundary=x\nContent-Length: 3000001", 413),
        (
            "POST /api/box HTTP/1.1\nContent-Type: multipart/form-data; boundary=x\nContent-Encoding: gzip\n"
            "Content-Length: 0",
            415,
        ),
        ("POST /api/box HTTP/1.1\nContent-Type: text/plain\nContent-Type: multipart/form-data; boundary=x", 400),
        ("GET /%ff%00 HTTP/1.1", 404),
        ("GET /?" + "a=b&" * 1000 + " HTTP/1.1", 400),
        ("GET /?v=%ff HTTP/1.1", 400),
        ("nonsense", 400),
    ],
)
def test_damaged_requests(server, head, status):
    assert raw(server, head)[0] == status
    assert raw(server, "GET /robots.txt HTTP/1.1")[0] == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 100_000, b'{"data": ' + b"1" * 5000 + b"}", b"\xff\xfe{\x00}\x00", b'"\xed\xa0\x80"']
)
def test_bodies_that_are_not_json(server, body):
    status, answer = post(server, EDIT, "application/json", body)
    assert status == 400
    assert "not valid JSON" in answer


def test_another_host_is_refused(server):
    assert raw(server, "GET / HTTP/1.1", host="evil.example")[0] == 400


def test_a_body_without_end_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(Connection, "seconds", 0.5)
    where = urlsplit(server)
    head = (
        f"POST /photos HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"40000\r\n" + b"x" * 0x40000 + b"\r\n"
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.sendall(head.encode())
        with pytest.raises(ConnectionError):  # noqa: PT012
            for _ in range(100):
                connection.sendall(chunk)
                time.sleep(0.05)


@pytest.mark.parametrize("path", ["/nothing", "/api/box"])
@pytest.mark.parametrize("body", [b"zz\r\n", b"2\r\n{}\r\nzz\r\n"])
def test_a_damaged_body_is_answered_once(server, path, body):
    """The refusal came after the answer that the body is damaged, and was a traceback in the server's log."""
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("uvicorn.error")
    log.addHandler(handler)
    try:
        head = f"POST {path} HTTP/1.1\nContent-Type: multipart/form-data; boundary=x\nTransfer-Encoding: chunked"
        assert raw(server, head, body)[0] == 400
        assert raw(server, "GET /robots.txt HTTP/1.1")[0] == 200
    finally:
        log.removeHandler(handler)
    assert [line for line in logged if "Exception" in line] == []


def test_a_head_without_end_is_cut_off(server):
    where = urlsplit(server)
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        with pytest.raises(ConnectionError):  # noqa: PT012
            for _ in range(100):
                connection.sendall(b"x" * 100_000)


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nX: ", b"trickle"])
def test_idle_connections_are_closed(server, monkeypatch, begun):
    monkeypatch.setattr(Connection, "seconds", 0.5)
    where = urlsplit(server)
    with socket.create_connection((where.hostname, where.port), timeout=0.1) as connection:
        if begun != b"trickle":
            connection.sendall(begun)
        for _ in range(100):
            try:
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                if begun == b"trickle":
                    connection.sendall(b"x")
            except ConnectionError:
                break
        else:
            pytest.fail("the connection is still open")


def test_connections_are_used_again(server, monkeypatch):
    monkeypatch.setattr(Connection, "seconds", 5)
    with httpx.Client() as client:
        for _ in range(3):
            assert client.get(f"{server}/robots.txt").status_code == 200


def answer_of(guard: Guard, receive) -> list[dict]:
    """What a guard sends for an upload whose body comes from `receive`."""
    sent: list[dict] = []

    async def send(message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"multipart/form-data; boundary=x"), (b"host", b"here")]
    scope = {"type": "http", "method": "POST", "path": "/api/box", "query_string": b"", "headers": headers}
    asyncio.run(guard(scope, receive, send))
    return sent


async def nobody(scope, receive, send) -> None:
    raise AssertionError("a refused request was passed on")


def test_a_slow_body_ends():
    async def receive():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    sent = answer_of(Guard(nobody, 1000, body_seconds=0.3), receive)
    assert sent[0]["status"] == 408


def test_bodies_held_at_the_same_time_are_limited():
    guard = Guard(nobody, 3_000_000)
    guard._held = 29_999_999

    async def receive():
        return {"type": "http.request", "body": b"xx", "more_body": False}

    sent = answer_of(guard, receive)
    assert sent[0]["status"] == 503
    assert guard._held == 29_999_999
