"""The requests that the page and the HTTP interface make: everything else is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

JSON, FORM = "application/json", "multipart/form-data"


@dataclass(frozen=True)
class Route:
    """One kind of request.

    Attributes:
        path: pattern of the whole path, decoded.
        methods: what may be asked for there.
        content_type: of the body; None for requests without a body.
        query: the parameters that are passed on; others are dropped.
    """

    path: re.Pattern[str]
    methods: tuple[str, ...]
    content_type: str | None = None
    query: frozenset[str] = frozenset()


def _get(path: str, *query: str) -> Route:
    return Route(re.compile(path), ("GET", "HEAD"), None, frozenset(query))


def _post(path: str, content_type: str, *query: str) -> Route:
    return Route(re.compile(path), ("POST",), content_type, frozenset(query))


_NAME = "[A-Za-z0-9_-]{1,64}"
_ASSET = r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*"  # no part begins with a dot

FILE = "/gradio_api/file="
"""Before the path of a file; only those in the folder of uploads are served."""

ROUTES = (
    # The page and what belongs to it.
    _get("/", "__theme", "view"),
    _get(f"/(?:assets|static)/{_ASSET}"),
    _get(r"/(?:theme\.css|favicon\.ico|robots\.txt|manifest\.json|config)", "v"),
    _get(f"/gradio_api/heartbeat/{_NAME}"),
    _get("/gradio_api/(?:app_id|info|startup-events)"),
    _get("/gradio_api/queue/data", "session_hash"),
    _get("/gradio_api/upload_progress", "upload_id"),
    _get(f"{FILE}.+"),
    _post("/gradio_api/queue/join", JSON),
    _post("/gradio_api/run/predict", JSON),
    _post("/gradio_api/(?:cancel|reset)", JSON),
    _post("/gradio_api/upload", FORM, "upload_id"),
    # The HTTP interface.
    _get(r"/api/openapi\.json"),
    _post("/api/(?:segment|refine|box)", FORM),
)


def find(path: str) -> Route | None:
    """The route of a path; None where there is none."""
    return next((route for route in ROUTES if route.path.fullmatch(path)), None)
