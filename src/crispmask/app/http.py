"""The HTTP interface under ``/api``, for curl and for any language: one request, one response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, File, Form, Response, UploadFile
from numpy.typing import NDArray

from crispmask.app.turns import Turns
from crispmask.app.uploads import as_mask, png, read_upload
from crispmask.coco import instances_to_results
from crispmask.detectors import Selection
from crispmask.errors import DataError
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.pipeline import Settings, segment_image
from crispmask.refinement import LearnedParams, default_params, refine_instances
from crispmask.refinement.sketch import mask_from_box
from crispmask.structured import parse_json

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


def router(detector: Selection, max_pixels: int, turns: Turns) -> APIRouter:
    """The routes.

    Args:
        detector: its score holds where the request names none.
        max_pixels: most pixels of an image.
        turns: of all requests.
    """
    routes = APIRouter(prefix="/api")

    def read(upload: UploadFile) -> NDArray[np.uint8]:
        return read_upload(upload.file.read(), max_pixels)

    # Not async, so that Starlette runs them in its thread pool and not in the event loop.
    @routes.post("/segment")
    def segment(
        image: Upload, score: Score = None, classes: ClassNames = None, tiles: Tiles = 1, params: Params = ""
    ) -> dict[str, Any]:
        """Detect and refine objects; returns COCO results before and after the refinement."""
        with turns():
            settings = Settings(_params(params), score, classes=classes or None, tiles=tiles)
            result = segment_image(read(image), detector, settings)
        sides = {"before": result.before, "after": result.after}
        return {side: _records(masks, detector.categories) for side, masks in sides.items()}

    @routes.post("/refine", response_class=Response)
    def refine(image: Upload, mask: Upload, params: Params = "") -> Response:
        """Refine an uploaded mask (white on black, of the image's size); returns the refined one as PNG."""
        with turns():
            pixels = read(image)
            before = as_mask(read(mask), (pixels.shape[0], pixels.shape[1]))
            after, _ = refine_instances(pixels, before, _params(params))
            return Response(png(after.mask(0)), media_type="image/png")

    @routes.post("/box", response_class=Response)
    def box(image: Upload, box: Annotated[str, Form(description="x0,y0,x1,y1 in pixels")]) -> Response:
        """Segment the object in a box; returns its mask as PNG."""
        with turns():
            try:
                corners = [float(v) for v in box.split(",")]
            except ValueError:
                raise DataError(f"box must be x0,y0,x1,y1 in pixels, got {box!r}") from None
            found = mask_from_box(read(image), corners)
            return Response(png(found.mask(0)), media_type="image/png")

    return routes


def _params(text: str) -> CRFParams | LearnedParams:
    if not text:
        return default_params()
    values = parse_json(text, "params")
    if not isinstance(values, dict):
        raise DataError("params must be a JSON object of parameter names and values")
    return CRFParams.from_dict(values, source="params")


def _records(instances: Instances, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """COCO results with the categories' names."""
    return [
        {**record, "category": names.get(record["category_id"], str(record["category_id"]))}
        for record in instances_to_results(instances, 1)
    ]
