"""From the rows of many machines to what a run without a cluster writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds
import ray

from crispmask.cluster.stages import KEY
from crispmask.cluster.storage import Place
from crispmask.coco import write_results
from crispmask.errors import ClusterError, DataError
from crispmask.files import write_text

BATCH = 256  # rows that the driver holds at a time
SORTED = 10_000  # rows that one task sorts: tens of megabytes


def check_rows(table: Place, photos: int) -> tuple[int, dict[str, str]]:
    """Number of objects, and the reason of each photo that could not be used, by its name.

    Raises:
        ClusterError: not exactly one row a photo.
    """
    content = ds.dataset(table.path, filesystem=table.filesystem, format="parquet")
    if content.count_rows() != photos:
        raise ClusterError(
            f"{table.url} holds {content.count_rows()} rows for {photos} photos: the output must be a folder that all "
            "machines share or an object store, and no photo may be in the manifest twice"
        )
    objects = sum(pc.sum(batch["objects"]).as_py() or 0 for batch in content.to_batches(columns=["objects"]))
    failed = content.to_table([KEY, "error"], filter=pc.field("error").is_valid()).sort_by(KEY)
    return objects, dict(zip(failed[KEY].to_pylist(), failed["error"].to_pylist(), strict=True))


def write_coco(
    table: Place,
    folder: Path,
    photos: int,
    category_ids: Mapping[int, int],
    categories: list[dict[str, Any]],
    ids_given: bool,
) -> list[str]:
    """Write ``results.json``, ``results_before.json`` and ``images.json`` from the rows, as `segment_folder` does.

    Ray sorts the rows, so that the driver's memory holds few of them at a time.

    Args:
        table: the folder of Parquet files.
        folder: of the files.
        photos: number of rows.
        category_ids: the detector's to the results'; others are left out.
        categories: of ``images.json``.
        ids_given: whether rows have image ids; else photos are numbered from 1 by sorted name.

    Returns:
        The names of the files.

    Raises:
        DataError: a photo without image id where others have one, or ids or names that are used twice.
    """
    key = "image_id" if ids_given else KEY
    rows = ray.data.read_parquet(table.path, filesystem=table.filesystem)
    rows.context.default_hash_shuffle_parallelism = 1 + photos // SORTED  # Ray's 200 take 10 s for a handful of rows
    rows.context.enable_progress_bars = rows.context.print_on_execution_start = False
    rows = rows.sort(key).materialize()
    images = []
    for number, row in enumerate(_rows(rows, [KEY, "image_id", "height", "width", "error"], key), start=1):
        if row["error"] is None:
            size = {"height": row["height"], "width": row["width"]}
            images.append({"id": row["image_id"] if ids_given else number, "file_name": row[KEY], **size})
    ids = {image["file_name"]: image["id"] for image in images}

    def results(side: str) -> Iterator[dict[str, Any]]:
        for row in _rows(rows, [KEY, "height", "width", "instances"], key=None):
            for found in row["instances"]:
                if found["category_id"] in category_ids:
                    yield {
                        "image_id": ids[row[KEY]],
                        "category_id": category_ids[found["category_id"]],
                        "bbox": found["bbox"],
                        "score": found["score"],
                        "segmentation": {"size": [row["height"], row["width"]], "counts": found[side]},
                    }

    for side, name in (("rle_before", "results_before.json"), ("rle", "results.json")):
        write_results(folder / name, results(side))
    content = {"images": images, "categories": categories, "annotations": []}
    write_text(folder / "images.json", json.dumps(content, indent=1) + "\n")
    return ["images.json", "results.json", "results_before.json"]


def _rows(rows: ray.data.Dataset, columns: list[str], key: str | None) -> Iterator[dict[str, Any]]:
    """The rows in order, where `key` is named checked to be there and to rise."""
    last: Any = None
    batches = rows.select_columns(columns).iter_batches(batch_size=BATCH, batch_format="pyarrow")
    for batch in batches:
        for row in batch.to_pylist():
            if key is not None and (row[key] is None or row[key] == last):
                what = f"has no {key}" if row[key] is None else f"has the {key} {last!r} of another photo"
                raise DataError(f"{row[KEY]} {what}: correct the manifest")
            last = row[key] if key is not None else None
            yield row
