"""Photos by address: from a server that plays Label Studio, from others, and from whoever should not be asked."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crispmask.app import remote
from crispmask.app.remote import Photos
from crispmask.errors import DataError, ParamsError

PERSONAL = "aaa.bbb.ccc"


@dataclass
class Server:
    """A web server on a loopback address.

    Attributes:
        answers: by path, or function of the request that gives status, headers and content.
        asked: method, path and Authorization of each request.
    """

    url: str = ""
    answers: dict[str, Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], bytes]]] = field(
        default_factory=dict
    )
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)


@pytest.fixture
def make_server() -> Iterator[Callable[[], Server]]:
    running = []

    def make() -> Server:
        state = Server()

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                state.asked.append((self.command, self.path, self.headers["authorization"]))
                status, headers, content = state.answers[self.path.partition("?")[0]](self)
                self.send_response(status)
                for name, value in {"content-length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        state.url = f"http://127.0.0.1:{server.server_port}"
        return state

    yield make
    for server in running:
        server.shutdown()
        server.server_close()


def always(status: int, content: bytes = b"", **headers: str):
    return lambda request: (status, headers, content)


def test_paths_are_fetched_from_label_studio_with_the_token(make_server):
    server = make_server()
    server.answers["/data/upload/1/a%20%C3%A4.jpg"] = always(200, b"photo")
    photos = Photos(server.url + "/", token="0123abc")
    assert photos.read("/data/upload/1/a ä.jpg") == b"photo"
    assert photos.read(f"{server.url}/data/upload/1/a%20%C3%A4.jpg?x=1") == b"photo"
    assert server.asked == [
        ("GET", "/data/upload/1/a%20%C3%A4.jpg", "Token 0123abc"),
        ("GET", "/data/upload/1/a%20%C3%A4.jpg?x=1", "Token 0123abc"),
    ]


def test_a_personal_token_is_exchanged_and_renewed_when_it_is_too_old(make_server):
    server, given = make_server(), []

    def refresh(request):
        given.append(f"access{len(given)}")
        return 200, {}, f'{{"access": "{given[-1]}"}}'.encode()

    def photo(request):
        return (200, {}, b"photo") if request.headers["authorization"] == f"Bearer {given[-1]}" else (401, {}, b"")

    server.answers |= {"/api/token/refresh/": refresh, "/data/a.jpg": photo}
    photos = Photos(server.url, token=PERSONAL)
    assert photos.read("/data/a.jpg") == photos.read("/data/a.jpg") == b"photo"
    assert len(given) == 1
    given[-1] = "other"  # the access token has expired
    assert photos.read("/data/a.jpg") == b"photo"
    assert len(given) == 2


@pytest.mark.parametrize(
    "answer", [always(401), always(200, b"{}"), always(200, b"[[["), always(200, b'{"access": 3}')]
)
def test_a_personal_token_that_is_refused(make_server, answer):
    server = make_server()
    server.answers["/api/token/refresh/"] = answer
    with pytest.raises(DataError, match="does not accept the token"):
        Photos(server.url, token=PERSONAL).read("/data/a.jpg")


def test_the_token_does_not_follow_to_another_server(make_server):
    server, other = make_server(), make_server()
    server.answers["/data/a.jpg"] = always(302, location=f"{other.url}/signed.jpg?key=1")
    other.answers["/signed.jpg"] = always(200, b"photo")
    photos = Photos(server.url, token="0123abc", hosts=["127.0.0.1"])
    assert photos.read("/data/a.jpg") == b"photo"
    assert server.asked[0][2] == "Token 0123abc"
    assert other.asked == [("GET", "/signed.jpg?key=1", None)]


def test_servers_in_private_networks_are_not_asked(make_server):
    server, other = make_server(), make_server()
    server.answers["/away"] = always(302, location=f"{other.url}/secret")
    other.answers["/secret"] = always(200, b"secret")
    photos = Photos(server.url)
    name = other.url.replace("127.0.0.1", "localhost")
    for address in (
        f"{other.url}/secret",
        f"{name}/secret",
        "/away",
        f"http://[::ffff:127.0.0.1]:{other.url[17:]}/secret",
    ):
        with pytest.raises(DataError, match=r"private network|cannot fetch"):
            photos.read(address)
    assert not other.asked
    assert Photos(server.url, hosts=["localhost"]).read(f"{name}/secret") == b"secret"


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "s3://bucket/a.jpg",
        "//evil.example/a.jpg",
        "/\\evil.example/a.jpg",
        "ftp://127.0.0.1/a.jpg",
        "http://user:word@127.0.0.1/a.jpg",
        "http://",
        "http://127.0.0.1:99999/a.jpg",
        "http://127.0.0.1:abc/a.jpg",
        "http://[::1/a.jpg",
        "http://a b/c.jpg",
        "http://exa\r\nmple/a.jpg",
        "http://" + "a" * 300 + "/a.jpg",
        "upload/a.jpg",
        "",
        "data:text/html;base64,AAAA",
        "data:image/png,AAAA",
    ],
)
def test_other_addresses_are_refused(address):
    with pytest.raises(DataError) as caught:
        Photos("http://127.0.0.1:9").read(address)
    assert "\n" not in str(caught.value)
    assert "word" not in str(caught.value)


def test_data_urls():
    photos = Photos("http://127.0.0.1:9", max_bytes=1000)
    text = base64.b64encode(b"\x89PNG").decode()
    assert photos.read(f"data:image/png;base64,{text}") == b"\x89PNG"
    with pytest.raises(DataError, match="base64"):
        photos.read("data:image/png;base64,!!!")
    with pytest.raises(DataError, match=r"more than 0\.001 MB"):
        photos.read("data:image/png;base64," + "A" * 2000)


def test_large_photos_are_refused(make_server):
    server = make_server()
    server.answers["/a.jpg"] = always(200, b"x" * 5000)
    with pytest.raises(DataError, match=r"more than 0\.001 MB"):
        Photos(server.url, max_bytes=1000).read("/a.jpg")


def test_a_server_that_drips_is_left(make_server, monkeypatch):
    server = make_server()
    monkeypatch.setattr(remote, "IN_ALL", -1.0)
    server.answers["/a.jpg"] = always(200, b"x" * 5000)
    with pytest.raises(DataError, match="took longer"):
        Photos(server.url).read("/a.jpg")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (always(404), "status 404 Not Found"),
        (always(500), "status 500"),
        (always(302), "status 302"),
        (always(302, location="/a.jpg"), "redirections"),
        (always(401), "LABEL_STUDIO_API_KEY"),
        (always(403), "LABEL_STUDIO_API_KEY"),
    ],
)
def test_what_goes_wrong_is_said(make_server, answer, reason):
    server = make_server()
    server.answers["/a.jpg"] = answer
    with pytest.raises(DataError, match=reason):
        Photos(server.url).read("/a.jpg?signature=secret")
    with pytest.raises(DataError, match="refused"):
        Photos("http://127.0.0.1:9").read("/a.jpg")


def test_messages_hold_no_signature(make_server):
    server = make_server()
    server.answers["/a.jpg"] = always(404)
    with pytest.raises(DataError) as caught:
        Photos(server.url, token="verysecret").read("/a.jpg?signature=verysecret")
    assert "verysecret" not in str(caught.value)
    assert "verysecret" not in repr(Photos(server.url, token="verysecret"))


@pytest.mark.parametrize(
    ("url", "token"), [("localhost:8080", ""), ("ftp://a", ""), ("http://a", "a b"), ("http://a", "ä")]
)
def test_what_cannot_be_used_is_said_at_the_start(url, token):
    with pytest.raises(ParamsError):
        Photos(url, token)
