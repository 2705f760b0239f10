"""Page and HTTP interface as one web server."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable
from queue import Empty, Queue
from typing import Any

from crispmask._version import __version__
from crispmask.detectors import Selection, load_detector, select
from crispmask.errors import MissingExtraError, ParamsError

MAX_PIXELS = 40_000_000
MAX_UPLOAD = 40_000_000
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    detector: str = "embedded",
    score: float | None = None,
    max_pixels: int = MAX_PIXELS,
    max_upload: int = MAX_UPLOAD,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the page until interrupted.

    Args:
        host: address to listen on; with any but a loopback address the page can be reached from the network.
        port: 0 chooses a free one.
        detector: name or file, see `crispmask.load_detector`.
        score: initial value of the slider for the lowest score; by default the detector's.
        max_pixels: larger images are refused.
        max_upload: larger uploads are refused, bytes.
        on_ready: called with the page's URL when it can be opened.

    Raises:
        MissingExtraError: the extra is not installed.
        ModelError: the detector cannot be loaded.
        ParamsError: the port is in use, or the address is not one of this computer.
    """
    check_installed()
    loaded = select(load_detector(detector), score=score)
    with tempfile.TemporaryDirectory(prefix="crispmask-app-") as folder:
        run(make_app(loaded, max_pixels, max_upload, folder, host), host, port, on_ready)


def in_background(serving: Callable[..., None], *arguments: Any, seconds: float = 60, **options: Any) -> str:
    """Start a server in a thread that ends with the process.

    Args:
        serving: `serve` or `run`.
        arguments, options: of it, without `on_ready`.
        seconds: longest wait until it can be reached.

    Returns:
        Its URL.

    Raises:
        TimeoutError: it did not start.
    """
    address: Queue[str] = Queue(1)
    threading.Thread(target=serving, args=arguments, kwargs={**options, "on_ready": address.put}, daemon=True).start()
    try:
        return address.get(timeout=seconds)
    except Empty:
        raise TimeoutError("the server did not start") from None


def check_installed() -> None:
    """Raise MissingExtraError unless what a server needs is installed."""
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "fastapi", "app") from None


def run(app: Any, host: str, port: int, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve an ASGI application until interrupted.

    Args:
        app: the application.
        host, port, on_ready: as for `serve`.

    Raises:
        ParamsError: the port is in use, or the address is not one of this computer.
    """
    import uvicorn

    from crispmask.app.connection import MAX_CONNECTIONS, MAX_HEAD, Connection

    config = uvicorn.Config(
        app,
        host,
        port,
        http=Connection,
        ws="none",
        log_level="error",  # a warning for each bad request would fill a log
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_graceful_shutdown=2,
    )
    try:
        socket = config.bind_socket()
    except SystemExit:  # uvicorn has printed the reason, and would end the process
        raise ParamsError(
            f"cannot listen on {host}:{port}: the port is in use, or the address is not one of this computer; "
            "choose another with --port or --host"
        ) from None
    server = uvicorn.Server(config)
    address = f"http://{host if ':' not in host else f'[{host}]'}:{socket.getsockname()[1]}"
    if on_ready:
        threading.Thread(target=_when_started, args=(server, on_ready, address), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[socket])


def make_app(detector: Selection, max_pixels: int, max_upload: int, folder: str, host: str = "127.0.0.1") -> Any:
    """The ASGI application: the HTTP interface under ``/api`` and the page at ``/``, both behind `Guard`.

    Args:
        detector, max_pixels, max_upload, host: as for `serve`; the detector's score is the one at first.
        folder: for files that are being downloaded.

    Raises:
        MissingExtraError: the extra is not installed.
    """
    check_installed()
    from fastapi import FastAPI

    from crispmask.app import http, page
    from crispmask.app.guard import Guard
    from crispmask.app.turns import Turns

    turns = Turns()
    app = FastAPI(
        title="crispmask", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json"
    )
    app.include_router(http.router(detector, max_pixels, turns))
    app.include_router(page.router(detector, max_pixels, turns, folder))
    app.add_middleware(Guard, max_upload=max_upload)
    check_host(app, host)
    return app


def check_host(app: Any, host: str) -> None:
    """Refuse what a page of another site sends whose name resolves to this computer (DNS rebinding).

    Args:
        app: the application; served to the network it has names that are not known here, and is not changed.
        host: the address that it listens on.
    """
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    if host in LOOPBACK:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])


def _when_started(server: Any, on_ready: Callable[[str], None], address: str) -> None:
    while not server.started and not server.should_exit:
        threading.Event().wait(0.05)
    if server.started:
        on_ready(address)
