from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crispmask.coco import CocoDataset
from crispmask.errors import DataError, ImageError
from crispmask.pipeline.plan import Plan
from crispmask.pipeline.ray.manifest import Manifest, find_images_and_urls, is_manifest, make_manifest
from crispmask.pipeline.ray.storage import Place


def test_photos_have_the_names_of_a_run_without_a_cluster(photos, without_heif):
    (photos / "x.heic").touch()
    found, unread = find_images_and_urls([photos])
    assert unread == [photos / "x.heic"]
    assert list(found) == ["a.jpg", "b.png", "d.webp", "e.png", "sub/a.jpg", "sub/deep/c.png"]
    assert found["sub/a.jpg"] == str(photos / "sub" / "a.jpg")


def test_photos_below_a_url_are_named_by_their_urls(photos):
    (photos / "notes.txt").write_text("no photo")
    url = f"file://{photos}"
    names, _ = find_images_and_urls([photos])
    assert list(find_images_and_urls([url])[0]) == [f"{url}/{name}" for name in names]
    assert list(find_images_and_urls([f"{url}/b.png"])[0]) == [f"{url}/b.png"]
    with pytest.raises(ImageError, match="holds no image"):
        find_images_and_urls([f"{url}/nothing"])


def test_annotations_give_ids_and_sizes(photos, tmp_path):
    images = [{"id": 7, "file_name": "sub/a.jpg", "height": 40, "width": 56}]
    (tmp_path / "gt.json").write_text(json.dumps({"images": images, "categories": [], "annotations": []}))
    dataset = CocoDataset.from_file(tmp_path / "gt.json")
    plan = Plan.make(*find_images_and_urls([photos]), dataset)
    manifest = make_manifest(plan, Place.of(tmp_path / "m.parquet"), ids=True)
    assert (manifest.images, plan.unnamed, plan.missing) == (1, 5, 0)
    uri = str(photos / "sub" / "a.jpg")
    row = {"file_name": "sub/a.jpg", "uri": uri, "image_id": 7, "height": 40, "width": 56}
    assert pq.read_table(tmp_path / "m.parquet").to_pylist() == [row]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_manifests(tmp_path, kind):
    rows = [{"file_name": "b.png", "image_id": 3, "note": "x"}, {"file_name": "file:///bucket/a.png", "image_id": 1}]
    path = tmp_path / f"m.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert is_manifest([path])
    manifest = Manifest.open([path])
    assert (manifest.images, manifest.columns) == (2, ("file_name", "image_id"))
    assert manifest.base == str(tmp_path)
    assert manifest.find() == {"b.png": str(tmp_path / "b.png"), "file:///bucket/a.png": "file:///bucket/a.png"}


def write(path: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_manifests_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="has no column 'file_name', only name"):
        Manifest.open([write(tmp_path / "a.parquet", name=["x"])])
    with pytest.raises(DataError, match="'image_id' must hold int64, not string"):
        Manifest.open([write(tmp_path / "b.parquet", file_name=["x"], image_id=["7"])])
    with pytest.raises(DataError, match="all be of one kind"):
        Manifest.open([tmp_path / "a.parquet", tmp_path / "photo.jpg"])
    (tmp_path / "c.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(DataError, match="cannot read the manifest"):
        Manifest.open([tmp_path / "c.parquet"])
    with pytest.raises(DataError, match="cannot read the manifest"):
        Manifest.open([tmp_path / "gone.jsonl"])
