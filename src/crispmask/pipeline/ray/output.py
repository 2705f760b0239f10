"""From the rows of many machines to what a run without a cluster writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from crispmask.coco import write_results
from crispmask.errors import ClusterError, DataError
from crispmask.files import write_text
from crispmask.pipeline.ray.stages import KEY
from crispmask.pipeline.ray.storage import Place

BATCH = 256  # rows that become Python objects at a time


def check_rows(table: Place, photos: int) -> tuple[int, dict[str, str]]:
    """Number of objects, and the reason of each photo that could not be used, by its name.

    Raises:
        ClusterError: not exactly one row a photo.
    """
    content = dataset_of(table)
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
    category_ids: Mapping[int, int],
    categories: list[dict[str, Any]],
    ids_given: bool,
) -> list[str]:
    """Write ``results.json``, ``results_before.json`` and ``images.json`` from the rows, as `segment_folder` does.

    The rows must fit into memory: a COCO JSON file is one piece, and whoever reads it holds it too.

    Args:
        table: the folder of Parquet files.
        folder: of the files.
        category_ids: the detector's to the results'; others are left out.
        categories: of ``images.json``.
        ids_given: whether rows have image ids; else photos are numbered from 1 by sorted name.

    Returns:
        The names of the files.

    Raises:
        DataError: a photo without image id where others have one, or ids or names that are used twice.
    """
    key = "image_id" if ids_given else KEY
    rows = dataset_of(table).to_table().sort_by(key)
    _check_rising(rows, key)
    ids = rows["image_id"].to_pylist() if ids_given else range(1, len(rows) + 1)

    def usable(columns: list[str]) -> Iterator[dict[str, Any]]:
        place = 0
        for batch in rows.select([*columns, "error"]).to_batches(max_chunksize=BATCH):
            for row in batch.to_pylist():
                if row["error"] is None:
                    yield {"id": ids[place], **row}
                place += 1

    def results(side: str) -> Iterator[dict[str, Any]]:
        for row in usable(["height", "width", "instances"]):
            for found in row["instances"]:
                if found["category_id"] in category_ids:
                    yield {
                        "image_id": row["id"],
                        "category_id": category_ids[found["category_id"]],
                        "bbox": found["bbox"],
                        "score": found["score"],
                        "segmentation": {"size": [row["height"], row["width"]], "counts": found[side]},
                    }

    for side, name in (("rle_before", "results_before.json"), ("rle", "results.json")):
        write_results(folder / name, results(side))
    keys = ("id", KEY, "height", "width")
    images = [{key: row[key] for key in keys} for row in usable([KEY, "height", "width"])]
    content = {"images": images, "categories": categories, "annotations": []}
    write_text(folder / "images.json", json.dumps(content, indent=1) + "\n")
    return ["images.json", "results.json", "results_before.json"]


def dataset_of(table: Place) -> ds.Dataset:
    """The rows of a finished run."""
    return ds.dataset(table.path, filesystem=table.filesystem, format="parquet")


def _check_rising(rows: pa.Table, key: str) -> None:
    values = rows[key].to_pylist()
    for k, value in enumerate(values):
        if value is None or (k and value == values[k - 1]):
            what = f"has no {key}" if value is None else f"has the {key} {value!r} of another photo"
            raise DataError(f"{rows[KEY][k].as_py()} {what}: correct the manifest, and begin anew with --restart")
