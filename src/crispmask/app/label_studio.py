"""A machine learning backend of Label Studio: regions come in, refined ones go out.

The requests are those that ``ml/api_connector.py`` of Label Studio makes. The package label-studio-ml is not used: the
one on PyPI is from 2022, its successor is on GitHub only, and both bring Flask, Redis and a queue of jobs.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Request
from numpy.typing import NDArray

from crispmask._version import __version__
from crispmask.app.guard import App, Guard, Receive, Send
from crispmask.app.remote import Photos
from crispmask.app.routes import LABEL_STUDIO
from crispmask.app.server import check_host
from crispmask.app.turns import Turns, answered
from crispmask.app.uploads import read_upload
from crispmask.errors import CrispmaskError, DataError
from crispmask.integrations.label_studio.interface import Interface
from crispmask.integrations.label_studio.results import Refined, refine_result
from crispmask.integrations.label_studio.tasks import address_of, result_of
from crispmask.params import CRFParams
from crispmask.refinement import LearnedParams
from crispmask.structured import parse_json

VERSION = f"crispmask-{__version__}"
"""The version of the model, by which Label Studio tells predictions apart."""

MAX_REQUEST = 100_000_000
"""Bytes of a request: tasks with their annotations."""

SECONDS = 80.0
"""Tasks that are not begun within this time are left for the next request: Label Studio waits 100 seconds."""


@dataclass(frozen=True)
class Backend:
    """What the requests are answered with.

    Attributes:
        photos: fetches them.
        params: of the refinement.
        max_pixels: larger photos are refused.
        tolerance: of polygons, pixels.
        password: user and password that Label Studio must give; None for none.
        log: called with a sentence about each task or region that is not refined.
    """

    photos: Photos
    params: CRFParams | LearnedParams
    max_pixels: int
    tolerance: float = 1.0
    password: tuple[str, str] | None = None
    log: Callable[[str], None] = lambda sentence: None

    def setup(self, request: Any) -> dict[str, Any]:
        """A project is connected, or asks whether all is well.

        Raises:
            DataError: its labeling configuration has no masks.
        """
        Interface.from_xml(_object(request, "the request").get("schema"))
        return {"model_version": VERSION}

    def predict(self, request: Any, turns: Turns) -> dict[str, Any]:
        """Refine what was drawn on tasks, one after the other.

        What a person draws with a smart tool comes alone, as the request's context, and errors are raised. Otherwise
        they are logged, and the task gets no prediction.
        """
        request = _object(request, "the request")
        interface = Interface.from_xml(request.get("label_config"))
        tasks = request.get("tasks")
        if not isinstance(tasks, list):
            raise DataError("'tasks' must be a list")
        context = (request.get("params") or {}).get("context") if isinstance(request.get("params"), Mapping) else None
        began = time.monotonic()
        results: list[Any] = []
        for task in tasks:
            if time.monotonic() - began > SECONDS:
                self.log(f"{len(tasks) - len(results)} of {len(tasks)} tasks are left: retrieve the predictions again")
                results += [[]] * (len(tasks) - len(results))
                break
            with turns():
                try:
                    results.append(self._prediction(_object(task, "a task"), interface, context))
                except CrispmaskError as error:
                    name = task.get("id") if isinstance(task, Mapping) else None
                    self.log(f"task {name}: {error}")
                    if context is not None:
                        raise
                    results.append([])
        return {"results": results, "model_version": VERSION}

    def _prediction(self, task: Mapping[str, Any], interface: Interface, context: Any) -> Any:
        drawn = context.get("result") if isinstance(context, Mapping) else None
        smart: list[Any] = drawn if isinstance(drawn, list) else []
        items = smart or result_of(task, VERSION)
        params = self.params
        if smart and isinstance(params, LearnedParams):  # whoever draws with a smart tool wants another mask
            params = params.with_overrides({"gated": "none"})
        shown: dict[str, NDArray[np.uint8]] = {}

        def photo(image: str) -> NDArray[np.uint8]:
            if image not in shown:
                content = self.photos.read(address_of(task, interface, image))
                shown[image] = read_upload(content, self.max_pixels)
            return shown[image]

        found: Refined = refine_result(
            items, interface, photo, params, tolerance=self.tolerance, new_ids=context is not None
        )
        for sentence in found.notes:
            self.log(f"task {task.get('id')}: {sentence}")
        if not shown and context is None:  # nothing to refine: a prediction of nothing would help nobody
            return []
        return {"result": found.items, "score": found.score, "model_version": VERSION}


def make_app(backend: Backend, host: str) -> Any:
    """The ASGI application, behind `Guard` and, where one is set, the password.

    Args:
        backend: answers the requests.
        host: address that it listens on.
    """
    app, turns = (
        FastAPI(title="crispmask", version=__version__, docs_url=None, redoc_url=None, openapi_url=None),
        Turns(),
    )

    @app.get("/")
    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "crispmask"}

    @app.get("/versions")
    def versions() -> dict[str, Any]:
        return {"versions": [VERSION]}

    @app.post("/setup")
    def setup(content: Content) -> dict[str, Any]:
        with answered(), _logged(backend):
            return backend.setup(parse_json(content, "the request"))

    @app.post("/predict")
    def predict(content: Content) -> dict[str, Any]:
        with answered(), _logged(backend):
            return backend.predict(parse_json(content, "the request"), turns)

    @app.post("/webhook")
    def webhook() -> dict[str, str]:
        """Label Studio tells of every change; nothing follows from it, since nothing is learned here."""
        return {"status": "ok"}

    app.add_middleware(Guard, max_upload=MAX_REQUEST, max_json=MAX_REQUEST, routes=LABEL_STUDIO)
    if backend.password is not None:
        app.add_middleware(Password, user=backend.password[0], password=backend.password[1])
    check_host(app, host)
    return app


class Password:
    """Middleware that asks for a user and a password (RFC 7617).

    Webhooks pass without them: Label Studio sends none there, and they change nothing.
    """

    def __init__(self, app: App, user: str, password: str) -> None:
        self.app = app
        self.expected = base64.b64encode(f"{user}:{password}".encode())

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] != "/webhook" and not self._knows(scope):
            headers = [(b"www-authenticate", b'Basic realm="crispmask", charset="UTF-8"'), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        await self.app(scope, receive, send)

    def _knows(self, scope: MutableMapping[str, Any]) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, credentials = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        return scheme.lower() == b"basic" and hmac.compare_digest(credentials.strip(), self.expected)


@contextmanager
def _logged(backend: Backend) -> Iterator[None]:
    """Label Studio shows the status of a refused request, but not the reason."""
    try:
        yield
    except CrispmaskError as error:
        backend.log(str(error))
        raise


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"{name} must be a JSON object")
    return value


async def _content(request: Request) -> bytes:
    return await request.body()


Content = Annotated[bytes, Depends(_content)]
