"""From the rows of many machines to what a run without a cluster writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from crispmask.errors import ClusterError, DataError
from crispmask.pipeline.output import Segmented, write_coco
from crispmask.pipeline.plan import Categories
from crispmask.pipeline.ray.stages import KEY
from crispmask.pipeline.ray.storage import Place

BATCH = 256  # rows that become Python objects at a time


@dataclass(frozen=True)
class Summary:
    """What the rows of a run of `segment` hold.

    Attributes:
        objects: instances.
        failed: the reason of each image that could not be used, by its name.
        animated: names of images whose file holds further frames or pages.
        left_alone: how many masks the learned parameters left as they were, by reason.
    """

    objects: int
    failed: dict[str, str]
    animated: tuple[str, ...]
    left_alone: Counter[str]


def summarize(table: Place, images: int) -> Summary:
    """What the rows hold, batch by batch; raises as `check_rows`."""
    failed = check_rows(table, images)
    objects, left_alone, animated = 0, Counter[str](), []
    for batch in dataset_of(table).to_batches(columns=[KEY, "objects", "animated", "instances"]):
        objects += pc.sum(batch["objects"]).as_py() or 0
        animated += batch.filter(pc.fill_null(batch["animated"], False))[KEY].to_pylist()
        reasons = pc.struct_field(pc.list_flatten(batch["instances"]), "left_alone")
        left_alone.update(reasons.drop_null().to_pylist())
    return Summary(objects, failed, tuple(sorted(animated)), left_alone)


def check_rows(table: Place, images: int) -> dict[str, str]:
    """The reason of each image that could not be used, by its name.

    Raises:
        ClusterError: not exactly one row an image.
    """
    content = dataset_of(table)
    rows = content.count_rows()
    if rows != images:
        raise ClusterError(
            f"{table.url} holds {rows} rows for {images} images: the output must be a folder that all machines share "
            "or an object store, and no image may be in the manifest twice"
        )
    failed = content.to_table([KEY, "error"], filter=pc.field("error").is_valid()).sort_by(KEY)
    return dict(zip(failed[KEY].to_pylist(), failed["error"].to_pylist(), strict=True))


def write_coco_of(table: Place, folder: Path, categories: Categories, ids_given: bool) -> list[Path]:
    """Write ``results.json``, ``results_before.json`` and ``images.json`` from the rows, as `segment_folder` does.

    The rows must fit into memory: a COCO JSON file is one piece, and whoever reads it holds it too.

    Args:
        table: the folder of Parquet files.
        folder: of the files.
        categories: those that the results do not have are left out.
        ids_given: whether rows have image ids; else images are numbered from 1 by sorted name.

    Returns:
        The files.

    Raises:
        DataError: an image without image id where others have one, or ids or names that are used twice.
    """
    key = "image_id" if ids_given else KEY
    rows = dataset_of(table).to_table().sort_by(key)
    _check_rising(rows, key)
    return write_coco(folder, _segmented(rows, ids_given), categories)


def _segmented(rows: pa.Table, ids_given: bool) -> Iterator[Segmented]:
    number = 0
    columns = [KEY, "image_id", "height", "width", "instances", "error"]
    for batch in rows.select(columns).to_batches(max_chunksize=BATCH):
        for row in batch.to_pylist():
            number += 1
            if row["error"] is None:
                size, image_id = (row["height"], row["width"]), row["image_id"] if ids_given else number
                before, after = _results(row, size, "rle_before"), _results(row, size, "rle")
                yield Segmented(image_id, row[KEY], size, before, after)


def _results(row: dict[str, Any], size: tuple[int, int], counts: str) -> list[dict[str, Any]]:
    """The instances of a row as COCO results, with the masks whose run lengths are in the column `counts`."""
    return [
        {
            "image_id": 0,
            "category_id": found["category_id"],
            "bbox": found["bbox"],
            "score": found["score"],
            "segmentation": {"size": list(size), "counts": found[counts]},
        }
        for found in row["instances"]
    ]


def dataset_of(table: Place) -> ds.Dataset:
    """The rows of a finished run."""
    return ds.dataset(table.path, filesystem=table.filesystem, format="parquet")


def _check_rising(rows: pa.Table, key: str) -> None:
    values = rows[key].to_pylist()
    for k, value in enumerate(values):
        if value is None or (k and value == values[k - 1]):
            what = f"has no {key}" if value is None else f"has the {key} {value!r} of another image"
            raise DataError(f"{rows[KEY][k].as_py()} {what}: correct the manifest, and begin anew with --restart")
