"""The stages as plain functions on tables; a cluster only moves these."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest

from crispmask.coco import instances_to_results
from crispmask.detectors import EMBEDDED_SHA256, load_detector
from crispmask.errors import DataError, ModelError
from crispmask.image import read_image
from crispmask.pipeline import Settings, refine_records, results, segment_image
from crispmask.pipeline.ray import stages
from crispmask.pipeline.ray.stages import RECORDS, RESULT, Detect, Refine, RefineRecords, locate, read_images
from crispmask.pipeline.segmenter import ImageResult
from crispmask.samples import sample_images


def read(rows: list[dict], **options) -> pa.Table:
    return pa.concat_tables(list(read_images(pa.Table.from_pylist(rows), base=None, **options)))


def test_the_stages_give_what_one_process_gives():
    photo, settings, detector = sample_images()[0], Settings(), load_detector(threads=1)
    pixels = read([{"file_name": "x.jpg", "uri": str(photo)}])
    image = read_image(photo)
    assert pixels["pixels"][0].as_py() == image.tobytes()
    found = pa.concat_tables(list(Detect("embedded", EMBEDDED_SHA256, settings)(pixels)))
    [row] = Refine(settings, detector.categories, EMBEDDED_SHA256)(found).to_pylist()
    result = segment_image(image, detector, settings)
    before, after = result.before, result.after
    assert row["objects"] == len(after) > 0
    assert [entry["left_alone"] for entry in row["instances"]] == [reason or None for reason in result.left_alone]
    for k, (old, new) in enumerate(zip(instances_to_results(before, 0), instances_to_results(after, 0), strict=True)):
        entry = row["instances"][k]
        assert (entry["bbox"], entry["score"], entry["category_id"]) == (new["bbox"], new["score"], new["category_id"])
        assert entry["rle"] == new["segmentation"]["counts"] != entry["rle_before"]
        assert entry["rle_before"] == old["segmentation"]["counts"]
    assert row["detector"] == EMBEDDED_SHA256
    assert json.loads(row["settings"]) == settings.as_dict()


def test_the_refinement_on_a_device(monkeypatch):
    """Both stages hand it over; that it gives the same masks is tested without a cluster."""
    photo = sample_images()[0]
    [row] = pa.concat_tables(
        list(Detect("embedded", EMBEDDED_SHA256, Settings())(read([{"file_name": "x.jpg", "uri": str(photo)}])))
    ).to_pylist()
    found, asked = pickle.loads(row["before"]), []

    def refine(image, instances, settings, *, device, **options):
        asked.append(device)
        return ImageResult(instances, instances, ("",) * len(instances))

    for module in (stages, results):
        monkeypatch.setattr(module, "refine_found", refine)
    records = [{"number": k, "record": json.dumps(r)} for k, r in enumerate(instances_to_results(found, 1))]
    Refine(Settings(), dict.fromkeys(range(99), "thing"), "", "cuda")(pa.Table.from_pylist([row]))
    RefineRecords(Settings(), "cuda")(pa.Table.from_pylist([{**row, "records": records}]))
    assert asked == ["cuda", "cuda"]


def test_a_machine_looks_for_what_is_wanted():
    photo, settings = sample_images()[0], Settings(score=0.2, classes="person", tiles=2, refine=False)
    [row] = pa.concat_tables(
        list(Detect("embedded", EMBEDDED_SHA256, settings)(read([{"file_name": "x.jpg", "uri": str(photo)}])))
    ).to_pylist()
    found, expected = pickle.loads(row["before"]), segment_image(read_image(photo), load_detector(), settings).before
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    assert set(found.category_ids.tolist()) == {1}


def test_a_bad_photo_goes_through_with_its_reason(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(sample_images()[0].read_bytes()[:900])
    rows = [
        {"file_name": "cut.jpg", "uri": str(tmp_path / "cut.jpg"), "height": None, "width": None},
        {"file_name": "gone.jpg", "uri": f"file://{tmp_path}/gone.jpg", "height": None, "width": None},
        {"file_name": "other.jpg", "uri": str(sample_images()[0]), "height": 3, "width": 4},
    ]
    found = pa.concat_tables(list(Detect("embedded", EMBEDDED_SHA256, Settings())(read(rows))))
    table = Refine(Settings(), {1: "person"}, EMBEDDED_SHA256)(found)
    assert table.schema == RESULT
    reasons = table["error"].to_pylist()
    assert reasons[0].startswith(f"{tmp_path}/cut.jpg is damaged or cut short")
    assert reasons[1] == f"file://{tmp_path}/gone.jpg does not exist"
    assert "the annotation file says 4x3" in reasons[2]
    assert table["objects"].to_pylist() == [0, 0, 0]


def test_the_detector_must_be_the_same_everywhere():
    with pytest.raises(ModelError, match="is another file on the machines of the cluster"):
        Detect("embedded", "0" * 64, Settings())


def test_a_row_without_a_name():
    with pytest.raises(DataError, match="a row without 'file_name'"):
        read([{"file_name": None, "uri": "a.jpg"}])


@pytest.mark.parametrize(
    ("uri", "base", "expected"),
    [
        ("a/b.jpg", "/photos", "/photos/a/b.jpg"),
        ("/other/b.jpg", "/photos", "/other/b.jpg"),
        ("file:///x/b.jpg", "/photos", "file:///x/b.jpg"),
        ("b.jpg", "file:///x", "file:///x/b.jpg"),
    ],
)
def test_where_a_photo_is(uri, base, expected):
    assert locate({"file_name": uri}, base).url == expected


def test_records_are_refined_as_without_a_cluster():
    photo, settings = sample_images()[0], Settings(score=0)
    image = read_image(photo)
    mask = np.zeros(image.shape[:2], bool)
    mask[40:200, 60:180] = True
    counts = np.diff(np.flatnonzero(np.diff(np.r_[2, mask.T.ravel(), 2]))).tolist()
    record = {"image_id": 5, "category_id": 1, "score": 7.5, "bbox": [60, 40, 120, 160], "mine": "kept"}
    record["segmentation"] = {"size": list(mask.shape), "counts": counts}
    entry = {"number": 3, "record": json.dumps(record)}
    table = read([{"file_name": "0", "uri": str(photo), "records": [entry]}], carry=(RECORDS,))
    [row] = RefineRecords(settings)(table).to_pylist()
    assert row["error"] is None
    assert [done["number"] for done in row["records"]] == [3]
    (refined,), (reason,) = refine_records(image, [record], settings)
    assert json.loads(row["records"][0]["record"]) == refined
    assert (row["records"][0]["left_alone"] or "") == reason
