"""What the machines of a cluster do: read images, detect, refine, and make rows for Parquet.

Each stage takes and gives small tables of images, one row an image. An image that cannot be used goes on with the
reason in ``error`` instead of pixels: it is reported in the end and does not stop the others.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
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
from crispmask.errors import DataError, ImageError, ModelError
from crispmask.image import Frame, decode_frame, read_frame
from crispmask.pipeline.progress import one_image
from crispmask.pipeline.ray.storage import Place
from crispmask.pipeline.results import refine_records
from crispmask.pipeline.segmenter import refine_found
from crispmask.pipeline.settings import Settings
from crispmask.threads import interruptible_pool

READERS = 8  # images that a reading task fetches at the same time: an object store answers after tens of milliseconds

KEY = "file_name"
"""The column that tells images apart, named as in COCO's images and in the metadata of Hugging Face's image folders."""

_IMAGE = [
    pa.field(KEY, pa.string()),
    pa.field("image_id", pa.int64()),
    pa.field("height", pa.int32()),
    pa.field("width", pa.int32()),
    pa.field("animated", pa.bool_()),
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
        pa.field("left_alone", pa.string()),
    ]
)

RESULT = pa.schema(
    [
        *_IMAGE,
        pa.field("objects", pa.int32()),
        pa.field("instances", pa.list_(INSTANCE)),
        pa.field("crispmask", pa.string()),
        pa.field("detector", pa.string()),
        pa.field("settings", pa.string()),
    ]
)
"""A row of the output: the image, why it could not be used (or null), its objects, and where they come from.

``animated`` says whether the file holds further frames or pages, which were not read. Of an instance, ``bbox`` is
COCO's [x, y, width, height] in pixels, ``rle`` the counts of the refined mask's compressed RLE of size [``height``,
``width``], ``rle_before`` those of the detector's mask, ``left_alone`` why learned parameters left the mask as it was
(null where they did not). ``detector`` is the SHA-256 of the weights."""

RECORD = pa.struct(
    [
        pa.field("number", pa.int64()),
        pa.field("record", pa.large_string()),
        pa.field("left_alone", pa.string()),
    ]
)
RECORDS = pa.field("records", pa.list_(RECORD))
"""Results of one image: their numbers in the file, what the file says, as JSON, and why a mask was left as it was."""

REFINED = pa.schema(
    [pa.field(KEY, pa.string()), pa.field("error", pa.string()), pa.field("objects", pa.int32()), RECORDS]
)
"""A row of ``refine``: the same records with refined masks, or why there are none."""

# Between the stages: the pixels as they lie in memory, the instances pickled as Ray's own arguments are.
_PIXELS = pa.schema([*_IMAGE, pa.field("pixels", pa.large_binary())])
_DETECTED = _PIXELS.append(pa.field("before", pa.large_binary()))


def read_images(batch: pa.Table, *, base: str | None, carry: tuple[pa.Field, ...] = ()) -> Iterator[pa.Table]:
    """Rows of a manifest with the images' pixels; row by row, so that a batch of large images is cut into blocks.

    Args:
        batch: columns ``file_name`` and, where there are such, ``uri`` (where the file is; by default its name below
            `base`), ``image_id``, and ``height`` and ``width`` that the image must have.
        base: path or URL that relative names start from.
        carry: further columns that stay.
    """
    schema = pa.schema([*_PIXELS, *carry])
    with interruptible_pool(READERS) as pool:
        for row in pool.map(partial(_read, base=base), batch.to_pylist()):
            yield pa.Table.from_pylist([row], schema)


def _read(row: dict[str, Any], base: str | None) -> dict[str, Any]:
    if not row[KEY]:
        raise DataError(f"the manifest has a row without {KEY!r}")
    read = {**row, "height": None, "width": None}
    with one_image(row[KEY], _into(read)):
        place = locate(row, base)
        frame = _frame(place)
        height, width = frame.pixels.shape[:2]
        if row.get("height") and row.get("width") and (height, width) != (row["height"], row["width"]):
            raise other_size(Path(place.url), (height, width), (row["height"], row["width"]))
        read.update(height=height, width=width, animated=frame.animated, pixels=frame.pixels.tobytes())
    return read


def _into(row: dict[str, Any]) -> Callable[[str], None]:
    """What to call with the reason why the image of a row cannot be used."""
    return lambda reason: row.update(pixels=None, error=reason)


def locate(row: dict[str, Any], base: str | None) -> Place:
    """Where the image of a manifest's row is."""
    uri = row.get("uri") or row[KEY]
    if base is None or "://" in uri or uri.startswith("/"):
        return Place.of(uri)
    return Place.of(base) / uri


def _frame(place: Place) -> Frame:
    if place.is_local:
        return read_frame(place.path)
    try:
        return decode_frame(place.read_bytes(), place.url)
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
        self._detector, _ = settings.applied_to(load_detector(detector, threads=1, device=device))
        if self._detector.checksum != checksum:
            raise ModelError(f"the detector {detector} is another file on the machines of the cluster than here")

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for row in batch.to_pylist():
            yield pa.Table.from_pylist([self._detect(row)], _DETECTED)

    def _detect(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["error"] is None:
            with one_image(row[KEY], _into(row)):
                row["before"] = pickle.dumps(self._detector(_image(row)))
        return row


@dataclass(frozen=True)
class Refine:
    """The refining stage, for tasks; gives rows of `RESULT`.

    Args:
        settings: of the run.
        categories: names by id, of the detector.
        checksum: SHA-256 of the detector's weights.
        device: of the refinement; see `crispmask.refine`.
    """

    settings: Settings
    categories: dict[int, str]
    checksum: str
    device: str | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        provenance = {
            "crispmask": __version__,
            "detector": self.checksum,
            "settings": json.dumps(self.settings.as_dict()),
        }
        return pa.Table.from_pylist([{**self._refine(row), **provenance} for row in batch.to_pylist()], RESULT)

    def _refine(self, row: dict[str, Any]) -> dict[str, Any]:
        instances: list[dict[str, Any]] = []
        if row["error"] is None:
            with one_image(row[KEY], _into(row)):
                instances = self._instances(row)
        return {**row, "objects": len(instances), "instances": instances}

    def _instances(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        found = pickle.loads(row["before"])
        result = refine_found(_image(row), found, self.settings, threads=1, device=self.device)
        before, after = instances_to_results(result.before, 0), instances_to_results(result.after, 0)
        return [
            {
                "category_id": new["category_id"],
                "category": self.categories[new["category_id"]],
                "score": new["score"],
                "bbox": new["bbox"],
                "rle": new["segmentation"]["counts"],
                "rle_before": old["segmentation"]["counts"],
                "left_alone": reason or None,
            }
            for old, new, reason in zip(before, after, result.left_alone, strict=True)
        ]


@dataclass(frozen=True)
class RefineRecords:
    """The refining stage for results that are there already; gives rows of `REFINED`.

    Args:
        settings: of the run.
        device: of the refinement; see `crispmask.refine`.
    """

    settings: Settings
    device: str | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([self._refine(row) for row in batch.to_pylist()], REFINED)

    def _refine(self, row: dict[str, Any]) -> dict[str, Any]:
        made = {KEY: row[KEY], "error": row["error"], "objects": 0, "records": row["records"]}
        if row["error"] is None:
            with one_image(row[KEY], _into(made)):
                records = [json.loads(entry["record"]) for entry in row["records"]]
                refined, left_alone = refine_records(_image(row), records, self.settings, threads=1, device=self.device)
                made["objects"] = len(refined)
                made["records"] = [
                    {"number": entry["number"], "record": json.dumps(record), "left_alone": reason or None}
                    for entry, record, reason in zip(row["records"], refined, left_alone, strict=True)
                ]
        return made


def _image(row: dict[str, Any]) -> NDArray[np.uint8]:
    # A copy, since Numba would compile everything once more for arrays that may not be written.
    return np.frombuffer(row["pixels"], np.uint8).reshape(row["height"], row["width"], 3).copy()
