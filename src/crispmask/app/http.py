"""The HTTP interface under ``/api``, for curl and for any language: one request, one response."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, File, Form, HTTPException, Response, UploadFile
from numpy.typing import NDArray

from crispmask.app import work
from crispmask.detectors import Selection
from crispmask.errors import CrispmaskError, DataError
from crispmask.params import CRFParams
from crispmask.pipeline import Settings, segment_image
from crispmask.refinement import LearnedParams, default_params
from crispmask.refinement.sketch import mask_from_box
from crispmask.structured import parse_json

WAITING = 8
"""Most requests that wait; further ones get status 503."""

MOST_TILES = 4
"""17 views of an image; a visitor must not keep the server busy with more."""

Upload = Annotated[UploadFile, File(description="an image file")]
Score = Annotated[float | None, Form(description="lowest score of an object; by default the one that the page shows")]
ClassNames = Annotated[str | None, Form(description="the only classes wanted, by name or id: person,dog")]
Tiles = Annotated[int, Form(ge=1, le=MOST_TILES, description="N: look at N x N overlapping tiles too")]
Params = Annotated[
    str,
    Form(description='JSON object of CRF parameters, such as {"theta_beta": 4}; by default the learned ones'),
]


def router(detector: Selection, max_pixels: int) -> APIRouter:
    """The routes.

    Args:
        detector: its score holds where the request names none.
        max_pixels: most pixels of an image.
    """
    routes = APIRouter(prefix="/api")
    turn, places = threading.Lock(), threading.BoundedSemaphore(WAITING + 1)

    @contextmanager
    def one_at_a_time() -> Iterator[None]:
        """Wait for earlier requests; turn errors of crispmask into responses."""
        if not places.acquire(blocking=False):
            raise HTTPException(503, "too many requests are waiting: try again later")
        try:
            with turn:
                yield
        except CrispmaskError as error:
            raise HTTPException(422, str(error)) from None
        except MemoryError:
            raise HTTPException(422, "there is not enough memory for this image: scale it down") from None
        finally:
            places.release()

    def read(upload: UploadFile) -> NDArray[np.uint8]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "upload"  # not the client's name for it
            path.write_bytes(upload.file.read())
            return work.read_upload(path, max_pixels)

    # Not async, so that Starlette runs them in its thread pool and not in the event loop.
    @routes.post("/segment")
    def segment(
        image: Upload, score: Score = None, classes: ClassNames = None, tiles: Tiles = 1, params: Params = ""
    ) -> dict[str, Any]:
        """Detect and refine objects; returns COCO results before and after the refinement."""
        with one_at_a_time():
            settings = Settings(_params(params), score, classes=classes or None, tiles=tiles)
            result = segment_image(read(image), detector, settings)
        sides = {"before": result.before, "after": result.after}
        return {side: work.as_records(masks, detector.categories) for side, masks in sides.items()}

    @routes.post("/refine", response_class=Response)
    def refine(image: Upload, mask: Upload, params: Params = "") -> Response:
        """Refine an uploaded mask (white on black, of the image's size); returns the refined one as PNG."""
        with one_at_a_time():
            pixels = read(image)
            return _mask(work.Scene(pixels, work.as_mask(read(mask), pixels.shape[:2]), {}, "mask"), _params(params))

    @routes.post("/box", response_class=Response)
    def box(image: Upload, box: Annotated[str, Form(description="x0,y0,x1,y1 in pixels")]) -> Response:
        """Segment the object in a box; returns its mask as PNG."""
        with one_at_a_time():
            try:
                corners = [float(v) for v in box.split(",")]
            except ValueError:
                raise DataError(f"box must be x0,y0,x1,y1 in pixels, got {box!r}") from None
            return _png(mask_from_box(read(image), corners).mask(0))

    return routes


def _params(text: str) -> CRFParams | LearnedParams:
    if not text:
        return default_params()
    values = parse_json(text, "params")
    if not isinstance(values, dict):
        raise DataError("params must be a JSON object of parameter names and values")
    return CRFParams.from_dict(values, source="params")


def _mask(scene: work.Scene, params: CRFParams | LearnedParams) -> Response:
    return _png(work.refine_scene(scene, params)[0].mask(0))


def _png(mask: NDArray[np.bool_]) -> Response:
    return Response(work.png(mask.astype(np.uint8) * 255), media_type="image/png")
