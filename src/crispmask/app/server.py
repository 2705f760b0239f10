"""Page and HTTP interface as one web server."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable
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
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "fastapi", "app") from None
    from crispmask.app.connection import MAX_CONNECTIONS, MAX_HEAD, Connection

    loaded = select(load_detector(detector), score=score)
    with tempfile.TemporaryDirectory(prefix="crispmask-app-") as folder:
        app = make_app(loaded, max_pixels, max_upload, folder, host)
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
    try:
        from fastapi import FastAPI
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from crispmask.app import http, page
        from crispmask.app.guard import Guard
        from crispmask.app.turns import Turns
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "fastapi", "app") from None

    turns = Turns()
    app = FastAPI(
        title="crispmask", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json"
    )
    app.include_router(http.router(detector, max_pixels, turns))
    app.include_router(page.router(detector, max_pixels, turns, folder))
    app.add_middleware(Guard, max_upload=max_upload)
    if host in LOOPBACK:  # against DNS rebinding: other sites whose name resolves to this computer are refused
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])
    return app


def _when_started(server: Any, on_ready: Callable[[str], None], address: str) -> None:
    while not server.started and not server.should_exit:
        threading.Event().wait(0.05)
    if server.started:
        on_ready(address)
