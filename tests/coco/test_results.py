from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from crispmask.coco import instances_to_results, read_results, results_to_instances, write_results
from crispmask.errors import DataError
from crispmask.instances import Instances


@pytest.fixture
def instances(tricky_masks) -> Instances:
    masks = np.stack(list(tricky_masks.values()))
    return Instances.from_masks(masks, scores=np.linspace(0.123456789, 1, 7), category_ids=[1, 2, 90, 1, 5, 6, 7])


def test_round_trip(tmp_path, instances):
    records = instances_to_results(instances, 42)
    path = tmp_path / "deep" / "results.json"
    write_results(path, records)
    assert read_results(path) == records
    again = results_to_instances(read_results(path), 37, 53)
    assert (again.masks() == instances.masks()).all()
    assert (again.boxes == instances.boxes).all()
    assert (again.category_ids == instances.category_ids).all()
    assert np.abs(again.scores - instances.scores).max() <= 5e-7
    assert instances_to_results(again, 42) == records


def test_records_are_coco(instances):
    record = instances_to_results(instances, np.int64(42))[2]
    assert list(record) == ["image_id", "category_id", "bbox", "score", "segmentation"]
    assert (record["image_id"], record["category_id"]) == (42, 90)
    assert record["bbox"] == [31, 17, 1, 1]
    assert json.loads(json.dumps(record)) == record


def test_numbers_are_rounded(instances):
    moved = Instances.from_masks(instances.mask(0), boxes=[[0.123456, 1, 2.987654, 3]], scores=[1 / 3])
    (record,) = instances_to_results(moved, 1)
    assert record["bbox"] == [0.12, 1.0, 2.86, 2.0]
    assert record["score"] == 0.333333


def test_empty_set(tmp_path):
    assert instances_to_results(Instances.empty((4, 5)), 1) == []
    write_results(tmp_path / "none.json", [])
    assert read_results(tmp_path / "none.json") == []
    assert len(results_to_instances([], 4, 5)) == 0


def test_results_without_boxes_get_tight_ones(instances):
    records = instances_to_results(instances, 1)
    for record in records:
        del record["bbox"]
    assert (results_to_instances(records, 37, 53).boxes == instances.boxes).all()


def test_gzip(tmp_path, instances):
    records = instances_to_results(instances, 1)
    (tmp_path / "results.json.gz").write_bytes(gzip.compress(json.dumps(records).encode()))
    assert read_results(tmp_path / "results.json.gz") == records


def test_a_failed_write_leaves_the_old_file(tmp_path, instances):
    path = tmp_path / "results.json"
    records = instances_to_results(instances, 1)
    write_results(path, records)
    old = path.read_bytes()
    with pytest.raises(DataError, match="cannot write"):
        write_results(path, [*records, {"score": float("nan")}])
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segmentation": None}, "result 1 has no 'segmentation'"),
        ({"segmentation": {"size": [1, 2], "counts": [2]}}, "result 1: the RLE has size"),
        ({"score": None}, "'score'"),
        ({"score": float("nan")}, "'score'"),
        ({"score": 1.5}, r"scores must be numbers in \[0, 1\]"),
        ({"category_id": 1.5}, "'category_id'"),
        ({"bbox": [1, 2, 3]}, "'bbox'"),
        ({"bbox": [900, 2, 3, 4]}, "outside the image"),
    ],
)
def test_bad_records(instances, change, words):
    records = instances_to_results(instances, 1)
    records[1].update(change)
    with pytest.raises(DataError, match=words):
        results_to_instances(records, 37, 53)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "list of records"),
        ([3], "result 0 must be an object"),
        ([{"image_id": 1, "category_id": 1}], "'score'"),
        ([{"image_id": "1", "category_id": 1, "score": 1}], "'image_id'"),
        ([{"image_id": 1, "category_id": 1, "score": 1, "id": 4}] * 2, "result 1: the id 4 is used twice, first by"),
    ],
)
def test_bad_files(tmp_path, content, words):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=words) as caught:
        read_results(path)
    assert "mine.json" in str(caught.value)
