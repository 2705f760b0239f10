"""What the machines of a cluster do: read photos, detect, refine, and rows for Parquet.

Each stage takes and gives small tables of photos, one row a photo. A photo that cannot be used goes on with the reason
in ``error`` instead of pixels, so that it is told in the end and does not stop the others.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crispmask._version import __version__
from crispmask.coco import instances_to_results
from crispmask.coco.images import other_size
from crispmask.detectors import load_detector
from crispmask.errors import CrispmaskError, DataError, ImageError, ModelError
from crispmask.image import decode_frame, read_image
from crispmask.pipeline import Settings, detect, refine, refine_records
from crispmask.pipeline.ray.storage import Place

READERS = 8  # photos that a reading task fetches at the same time: an object store answers after tens of milliseconds

KEY = "file_name"
"""The column that tells photos apart, named as in COCO's images and in the metadata of Hugging Face's image folders."""

_PHOTO = [
    pa.field(KEY, pa.string()),
    pa.field("image_id", pa.int64()),
    pa.field("height", pa.int32()),
    pa.field("width", pa.int32()),
    pa.field("error", pa.string()),
]

INSTANCE = pa.struct(
    [
        pa.field("category_id", pa.int64()),
        pa.field("category", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("bbox", pa.list_(pa.float64())),
        pa.field("rle", pa.large_string()),
        pa.field("rle_before", pa.large_string()),
    ]
)

RESULT = pa.schema(
    [
        *_PHOTO,
        pa.field("objects", pa.int32()),
        pa.field("instances", pa.list_(INSTANCE)),
        pa.field("crispmask", pa.string()),
        pa.field("detector", pa.string()),
        pa.field("settings", pa.string()),
    ]
)
"""A row of the output: the photo, why it could not be used (or null), its objects, and where they come from.

``bbox`` is COCO's [x, y, width, height] in pixels, ``rle`` the counts of the refined mask's compressed RLE of size
[``height``, ``width``], ``rle_before`` those of the detector's mask; ``detector`` is the SHA-256 of the weights."""

RECORD = pa.struct([pa.field("number", pa.int64()), pa.field("record", pa.large_string())])
RECORDS = pa.field("records", pa.list_(RECORD))
"""Results of one photo: their numbers in the file, and what the file says, as JSON."""

REFINED = pa.schema(
    [pa.field(KEY, pa.string()), pa.field("error", pa.string()), pa.field("objects", pa.int32()), RECORDS]
)
"""A row of ``refine``: the same records with refined masks, or why there are none."""

# Between the stages: the pixels as they lie in memory, the instances pickled as Ray's own arguments are.
_PIXELS = pa.schema([*_PHOTO, pa.field("pixels", pa.large_binary())])
_DETECTED = _PIXELS.append(pa.field("before", pa.large_binary()))


def read_photos(batch: pa.Table, *, base: str | None, carry: tuple[pa.Field, ...] = ()) -> Iterator[pa.Table]:
    """Rows of a manifest with the photos' pixels; row by row, so that a batch of large photos is cut into blocks.

    Args:
        batch: columns ``file_name`` and, where there are such, ``uri`` (where the file is; by default its name below
            `base`), ``image_id``, and ``height`` and ``width`` that the photo must have.
        base: path or URL that relative names start from.
        carry: further columns that stay.
    """
    schema = pa.schema([*_PIXELS, *carry])
    with ThreadPoolExecutor(READERS) as pool:
        for row in pool.map(partial(_read_photo, base=base), batch.to_pylist()):
            yield pa.Table.from_pylist([row], schema)


def _read_photo(row: dict[str, Any], base: str | None) -> dict[str, Any]:
    if not row[KEY]:
        raise DataError(f"the manifest has a row without {KEY!r}")
    photo = {**row, "height": None, "width": None}
    try:
        place = locate(row, base)
        image = _pixels(place)
        height, width = row.get("height"), row.get("width")
        if height and width and image.shape[:2] != (height, width):
            raise other_size(Path(place.url), (image.shape[0], image.shape[1]), (height, width))
    except CrispmaskError as error:
        return {**photo, "error": str(error)}
    return {**photo, "height": image.shape[0], "width": image.shape[1], "pixels": image.tobytes()}


def locate(row: dict[str, Any], base: str | None) -> Place:
    """Where the photo of a manifest's row is."""
    uri = row.get("uri") or row[KEY]
    if base is None or "://" in uri or uri.startswith("/"):
        return Place.of(uri)
    return Place.of(base) / uri


def _pixels(place: Place) -> NDArray[np.uint8]:
    if place.is_local:
        return read_image(place.path)
    try:
        return decode_frame(place.read_bytes(), place.url).pixels
    except FileNotFoundError:
        raise ImageError(f"{place.url} does not exist") from None
    except OSError as error:
        raise ImageError(f"{place.url} cannot be read: {error}") from None


class Detect:
    """The detecting stage, for actors: the model is loaded once.

    Args:
        detector: as for `load_detector`; a file must be there on every machine.
        checksum: SHA-256 that the weights must have.
        settings: of the run.
        device: as for `load_detector`.

    Raises:
        ModelError: no such model on this machine, or another one.
        ParamsError: no such device on this machine.
    """

    def __init__(self, detector: str, checksum: str, settings: Settings, device: str = "cpu") -> None:
        self._detector, self._settings = load_detector(detector, threads=1, device=device), settings
        if self._detector.checksum != checksum:
            raise ModelError(f"the detector {detector} is another file on the machines of the cluster than here")

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for row in batch.to_pylist():
            yield pa.Table.from_pylist([self._detect(row)], _DETECTED)

    def _detect(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["error"] is not None:
            return row
        try:
            return {**row, "before": pickle.dumps(detect(_image(row), self._detector, self._settings))}
        except ModelError:
            raise
        except (CrispmaskError, MemoryError) as error:
            return {**row, "pixels": None, "error": _reason(row, error)}


@dataclass(frozen=True)
class Refine:
    """The refining stage, for tasks; gives rows of `RESULT`.

    Args:
        settings: of the run.
        categories: names by id, of the detector.
        checksum: SHA-256 of the detector's weights.
    """

    settings: Settings
    categories: dict[int, str]
    checksum: str

    def __call__(self, batch: pa.Table) -> pa.Table:
        provenance = {
            "crispmask": __version__,
            "detector": self.checksum,
            "settings": json.dumps(self.settings.as_dict()),
        }
        return pa.Table.from_pylist([{**self._refine(row), **provenance} for row in batch.to_pylist()], RESULT)

    def _refine(self, row: dict[str, Any]) -> dict[str, Any]:
        instances = []
        if row["error"] is None:
            try:
                instances = self._instances(row)
            except (CrispmaskError, MemoryError) as error:
                row = {**row, "error": _reason(row, error)}
        return {**row, "objects": len(instances), "instances": instances}

    def _instances(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        before = pickle.loads(row["before"])
        after = refine(_image(row), before, self.settings, threads=1)
        pairs = zip(instances_to_results(before, 0), instances_to_results(after, 0), strict=True)
        return [
            {
                "category_id": new["category_id"],
                "category": self.categories[new["category_id"]],
                "score": new["score"],
                "bbox": new["bbox"],
                "rle": new["segmentation"]["counts"],
                "rle_before": old["segmentation"]["counts"],
            }
            for old, new in pairs
        ]


@dataclass(frozen=True)
class RefineRecords:
    """The refining stage for results that are there already; gives rows of `REFINED`.

    Args:
        settings: of the run.
    """

    settings: Settings

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([self._refine(row) for row in batch.to_pylist()], REFINED)

    def _refine(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["error"] is None:
            try:
                records = [json.loads(entry["record"]) for entry in row["records"]]
                refined = refine_records(_image(row), records, self.settings, threads=1)
            except (CrispmaskError, MemoryError) as error:
                return {KEY: row[KEY], "error": _reason(row, error), "objects": 0, "records": row["records"]}
            numbers = (entry["number"] for entry in row["records"])
            done = [{"number": k, "record": json.dumps(r)} for k, r in zip(numbers, refined, strict=True)]
            return {KEY: row[KEY], "error": None, "objects": len(done), "records": done}
        return {**row, "objects": 0}


def _image(row: dict[str, Any]) -> NDArray[np.uint8]:
    # A copy, since Numba would compile everything once more for arrays that may not be written.
    return np.frombuffer(row["pixels"], np.uint8).reshape(row["height"], row["width"], 3).copy()


def _reason(row: dict[str, Any], error: Exception) -> str:
    return f"{row[KEY]} does not fit into memory" if isinstance(error, MemoryError) else str(error)
