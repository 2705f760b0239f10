from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crispmask.errors import ClusterError, DataError
from crispmask.pipeline.plan import Categories
from crispmask.pipeline.ray.output import summarize, write_coco_of
from crispmask.pipeline.ray.stages import RESULT
from crispmask.pipeline.ray.storage import Place


def instance(category: int, left_alone: str | None) -> dict:
    found = {"category_id": category, "category": "x", "score": 0.5, "bbox": [0.0, 0.0, 1.0, 1.0]}
    return {**found, "rle": "after", "rle_before": "before", "left_alone": left_alone}


@pytest.fixture
def table(tmp_path) -> Place:
    """Three images in two files: one with three instances, one that cannot be used, one animation without any."""
    rows = [
        {"file_name": "b.png", "image_id": 7, "height": 4, "width": 5, "animated": False, "objects": 3},
        {"file_name": "broken.png", "image_id": 3, "error": "broken.png is damaged", "objects": 0, "instances": []},
        {"file_name": "a.gif", "image_id": 9, "height": 2, "width": 3, "animated": True, "objects": 0, "instances": []},
    ]
    rows[0]["instances"] = [instance(1, "too small"), instance(1, None), instance(2, "too small")]
    (tmp_path / "images.parquet").mkdir()
    for k, part in enumerate((rows[:1], rows[1:])):
        pq.write_table(pa.Table.from_pylist(part, RESULT), tmp_path / "images.parquet" / f"{k}.parquet")
    return Place.of(tmp_path / "images.parquet")


def test_the_summary_of_a_run(table):
    summary = summarize(table, 3)
    assert summary.objects == 3
    assert summary.failed == {"broken.png": "broken.png is damaged"}
    assert summary.animated == ("a.gif",)
    assert summary.left_alone == {"too small": 2}


@pytest.mark.parametrize("images", [2, 4])
def test_rows_that_are_too_many_or_too_few(table, images):
    with pytest.raises(ClusterError, match=f"holds 3 rows for {images} images"):
        summarize(table, images)


@pytest.mark.parametrize(("given", "ids"), [(True, {"b.png": 7, "a.gif": 9}), (False, {"a.gif": 1, "b.png": 2})])
def test_coco_files(table, tmp_path, given, ids):
    files = write_coco_of(table, tmp_path, Categories.make({1: "x", 2: "y"}, None), given)
    assert [path.name for path in files] == ["images.json", "results.json", "results_before.json"]
    images = json.loads((tmp_path / "images.json").read_text())["images"]
    assert {image["file_name"]: image["id"] for image in images} == ids
    for name, counts in (("results.json", "after"), ("results_before.json", "before")):
        results = json.loads((tmp_path / name).read_text())
        assert [record["category_id"] for record in results] == [1, 1, 2]
        assert {record["image_id"] for record in results} == {ids["b.png"]}
        assert results[0]["segmentation"] == {"size": [4, 5], "counts": counts}


def test_ids_that_are_used_twice(table, tmp_path: Path):
    row = {"file_name": "c.png", "image_id": 9, "objects": 0, "instances": []}
    pq.write_table(pa.Table.from_pylist([row], RESULT), Path(table.path) / "2.parquet")
    with pytest.raises(DataError, match=r"png|gif has the image_id 9 of another image"):
        write_coco_of(table, tmp_path, Categories.make({1: "x"}, None), True)
