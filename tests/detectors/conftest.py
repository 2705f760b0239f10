"""A server on this machine with weights of the right shapes, in the place of torchvision's."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crispmask.detectors import checksum
from crispmask.detectors.weights import NAMES, WEIGHTS


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and what hostile servers do under the names of the attributes."""

    asked: list[str]
    sent: list[int]

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        folder, _, name = self.path.strip("/").rpartition("/")
        self.path = f"/{name}"
        if folder == "silent":
            threading.Event().wait(1)
        elif folder == "cut":
            content = (Path(self.directory) / name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
        elif folder in ("large", "endless"):  # more than the file has; one of them says so
            self.send_response(200)
            if folder == "large":
                self.send_header("Content-Length", str(1 << 30))
            self.end_headers()
            with contextlib.suppress(OSError):  # until the client goes away
                for _ in range(1 << 10):
                    self.sent.append(self.wfile.write(bytes(1 << 16)))
        else:
            super().do_GET()


class Server:
    """`url` of the folder `folder`, the paths that were `asked` for, and the bytes `sent` where there is no end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.sent = folder, [], []
        handler = type("Handler", (Quiet,), {"asked": self.asked, "sent": self.sent})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    made = Server(tmp_path / "served")
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch; gives the folder of its checkpoints."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("CRISPMASK_MODELS_URL", raising=False)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, server: Server):
    """Put a file on the server as the weights of a detector; gives its name there, which ends in its hash."""

    def put(file: Path, name: str = NAMES[0]) -> str:
        published = f"{name}_coco-{checksum(file)[:8]}.pth"
        file.rename(server.folder / published)
        size = (server.folder / published).stat().st_size
        served = replace(WEIGHTS[name], url=f"{server.url}/{published}", mebibytes=round(size / 2**20, 3))
        monkeypatch.setitem(WEIGHTS, name, served)
        return published

    return put
