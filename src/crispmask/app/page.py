"""The page: its files, and the requests that it makes."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from crispmask.app import downloads
from crispmask.app.controls import description
from crispmask.app.edits import add_mask, edit
from crispmask.app.photos import Photos
from crispmask.app.refiner import Refiner
from crispmask.app.scene import Photo, Settings
from crispmask.app.turns import Turns
from crispmask.app.uploads import read_upload
from crispmask.detectors import Selection
from crispmask.errors import DataError
from crispmask.samples import sample_images
from crispmask.structured import parse_json

STATIC = Path(__file__).parent / "static"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
NAMED = 200
"""Characters of a file's name that are kept."""


def router(detector: Selection, max_pixels: int, turns: Turns, folder: str) -> APIRouter:
    """The routes.

    Args:
        detector: its score is the lowest one at first.
        max_pixels: most pixels of an image.
        turns: of all requests.
        folder: for files that are being downloaded.
    """
    routes = APIRouter(include_in_schema=False)
    photos, refiner = Photos(), Refiner()
    static = {path.name: path for path in STATIC.iterdir() if path.suffix in TYPES}
    samples = {path.name: path for path in sample_images()}

    @routes.api_route("/", methods=["GET", "HEAD"])
    def index() -> Response:
        return _static(static["index.html"])

    @routes.api_route("/static/{name}", methods=["GET", "HEAD"])
    def file(name: str) -> Response:
        return _static(_known(static, name))

    @routes.api_route("/samples/{name}", methods=["GET", "HEAD"])
    def sample(name: str) -> Response:
        return FileResponse(_known(samples, name))

    @routes.api_route("/robots.txt", methods=["GET", "HEAD"])
    def robots() -> Response:
        return Response("User-agent: *\nDisallow: /\n", media_type="text/plain")

    @routes.api_route("/settings", methods=["GET", "HEAD"])
    def settings() -> dict[str, Any]:
        """What the page must know before a photo is open."""
        return {
            **description(),
            "samples": list(samples),
            "classes": sorted(detector.categories.values()),
            "score": detector.default_score,
            "max_megapixels": max_pixels / 1e6,
        }

    # Not async, so that Starlette runs them in its thread pool and not in the event loop.
    @routes.post("/photos")
    def open_photo(image: Annotated[UploadFile, File()], settings: Annotated[str, Form()] = "") -> dict[str, Any]:
        """Open a photo, with the settings of another if they are given as JSON."""
        with turns():
            pixels = read_upload(image.file.read(), max_pixels)
            first = _settings(settings, detector.default_score)
            photo = Photo(pixels, (image.filename or "photo")[-NAMED:], detector, refiner, first)
            photos.add(photo)
            state = _state(photo, (), None)
        height, width = photo.size
        return {"id": photo.id, "width": width, "height": height, "shrink": photo.shrink, **state}

    @routes.post("/photos/{key}/edit")
    async def change(key: str, request: Request) -> dict[str, Any]:
        """Carry out a request of `crispmask.app.edits`; ``have`` lists the mattes that the page has."""
        content = await request.body()
        return await run_in_threadpool(_change, key, content)

    def _change(key: str, content: bytes) -> dict[str, Any]:
        with turns():
            asked = parse_json(content, "the body")
            if isinstance(asked, dict) and asked.get("do") == "close":
                photos.close(key)
                return {}
            photo = photos.get(key)
            made = edit(photo, asked)
            photos.tidy()
            have = asked.get("have", [])
            return _state(photo, have if isinstance(have, list) else (), made)

    @routes.post("/photos/{key}/mask")
    def own_mask(key: str, mask: Annotated[UploadFile, File()]) -> dict[str, Any]:
        """Add an uploaded mask."""
        with turns():
            photo = photos.get(key)
            made = add_mask(photo, read_upload(mask.file.read(), max_pixels))
            photos.tidy()
            return _state(photo, (), made)

    @routes.get("/photos/{key}/shown")
    def shown(key: str) -> Response:
        """The photo as the page shows it."""
        with turns():
            return Response(photos.get(key).shown, media_type="image/jpeg")

    @routes.get("/photos/{key}/files/{name}")
    def download(key: str, name: str, object: int | None = None) -> Response:
        """A file, made now from what the page shows now."""
        with turns():
            photo = photos.get(key)
            content = _known(downloads.FILES, name)(photo, photo.scene, object)
        return Response(content, media_type="application/octet-stream")

    @routes.get("/photos.zip")
    def everything(ids: str) -> Response:
        """All files of one or several photos."""
        with turns():
            chosen = [photos.get(key) for key in dict.fromkeys(ids.split("."))]
            with tempfile.NamedTemporaryFile(dir=folder, suffix=".zip", delete=False) as made:
                path = Path(made.name)
            try:
                downloads.archive(chosen, path)
            except BaseException:
                path.unlink()
                raise
        return FileResponse(path, media_type="application/zip", background=BackgroundTask(path.unlink))

    return routes


def _settings(text: str, score: float) -> Settings:
    """The settings for a new photo, from those of another as `_state` gives them."""
    if not text:
        return Settings(score=score)
    given = parse_json(text, "settings")
    try:
        found = Settings(
            str(given["method"]),
            dict(given["values"]),
            float(given["score"]),
            tuple(str(name) for name in given["classes"]),
            1,
            float(given["edge"]),
        )
        if not (0 <= found.score <= 1 and -1 <= found.edge <= 1):
            raise ValueError
        found.params()
    except (KeyError, TypeError, ValueError):
        raise DataError("settings must be those of an open photo") from None
    return found


def _state(photo: Photo, have: Sequence[object], made: int | None) -> dict[str, Any]:
    """What the page shows: objects and settings, and the mattes that it does not have yet."""
    scene = photo.scene
    had = {number for number in have if isinstance(number, int)}
    mattes: dict[str, Any] = {}
    objects = []
    for thing in scene.things:
        for matte in (thing.before, thing.refined.matte):
            if matte.number not in had and str(matte.number) not in mattes:
                picture, place = matte.sketch(photo.shrink)
                mattes[str(matte.number)] = {"place": place, "png": base64.b64encode(picture).decode()}
        objects.append(
            {
                "key": thing.key,
                "label": thing.label,
                "origin": thing.origin,
                "score": round(thing.source.score, 3),
                "box": [round(v, 1) for v in thing.source.box],
                "before": thing.before.number,
                "after": thing.refined.matte.number,
                "kept": thing.refined.kept,
                "edge": thing.edge,
                "command": downloads.command_line(scene, thing.key),
            }
        )
    settings = scene.settings
    return {
        "objects": objects,
        "mattes": mattes,
        "made": made,
        "can_undo": photo.can_undo,
        "can_redo": photo.can_redo,
        "settings": {
            "method": settings.method,
            "values": dict(settings.values),
            "score": settings.score,
            "classes": list(settings.classes),
            "tiles": settings.tiles,
            "edge": settings.edge,
        },
        "command": downloads.command_line(scene),
    }


def _known(files: Any, name: str) -> Any:
    if name not in files:
        raise HTTPException(404, "there is nothing at this address")
    return files[name]


def _static(path: Path) -> Response:
    # The browser asks each time whether its copy is still right: a new version of crispmask has new files.
    return FileResponse(path, media_type=TYPES[path.suffix], headers={"cache-control": "no-cache"})
