"""The requests that are answered: everything else is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
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


def _get_only(path: str, *query: str) -> Route:
    """What takes work to answer is not made for a HEAD."""
    return Route(re.compile(path), ("GET",), None, frozenset(query))


def _post(path: str, content_type: str, *query: str) -> Route:
    return Route(re.compile(path), ("POST",), content_type, frozenset(query))


_ID = "[A-Za-z0-9_-]{22}"

ROUTES = (
    # The page and what belongs to it.
    _get("/"),
    _get(r"/static/[a-z]{1,32}\.(?:css|js|svg)"),
    _get(r"/samples/[a-z_]{1,32}\.jpg"),
    _get(r"/(?:robots\.txt|settings)"),
    _post("/photos", FORM),
    _post(f"/photos/{_ID}/edit", JSON),
    _post(f"/photos/{_ID}/mask", FORM),
    _get_only(f"/photos/{_ID}/shown"),
    _get_only(rf"/photos/{_ID}/files/[a-z_]{{1,32}}\.(?:png|json|toml)", "object"),
    _get_only(r"/photos\.zip", "ids"),
    # The HTTP interface.
    _get(r"/api/openapi\.json"),
    _post("/api/(?:segment|refine|box)", FORM),
)
"""Those of the page and of the HTTP interface."""


LABEL_STUDIO = (
    _get("/(?:health|versions)?"),
    _post("/(?:setup|predict|webhook)", JSON),
)
"""What Label Studio asks a machine learning backend for."""


def find(path: str, routes: Sequence[Route] = ROUTES) -> Route | None:
    """The route of a path; None where there is none."""
    return next((route for route in routes if route.path.fullmatch(path)), None)
