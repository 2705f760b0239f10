"""Whole runs on a real cluster of two node processes, against runs without one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import ray
from ray.cluster_utils import Cluster

from crispmask.cluster import engine, refine_on_ray, segment, segment_on_ray
from crispmask.detectors import load_detector
from crispmask.errors import ParamsError
from crispmask.pipeline import Settings, refine_results, segment_folder
from crispmask.samples import sample_photos

FILES = ("results.json", "results_before.json", "images.json", "provenance.json")


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Two node processes, and this one connected to them."""
    node = {"num_cpus": 1, "object_store_memory": 100_000_000, "node_ip_address": "127.0.0.1"}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes.add_node(**node)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    assert len(ray.nodes()) == 2
    yield
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two photos with people, one of them twice, and one that is cut short."""
    (tmp_path / "photos").mkdir()
    first, second = sample_photos()
    for name, photo in (("a.jpg", first), ("b.jpg", second), ("d.jpg", first)):
        shutil.copy(photo, tmp_path / "photos" / name)
    (tmp_path / "photos" / "c.jpg").write_bytes(first.read_bytes()[:900])
    return tmp_path / "photos"


def test_interrupted_and_continued(cluster, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "BLOCK", 1)  # a file a photo
    out, told = tmp_path / "out", []
    with monkeypatch.context() as patch:
        patch.setattr(segment, "write_coco", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            segment_on_ray([folder], out, photos_per_file=1, on_progress=told.append)
    assert (told[0].done, told[-1].done, told[-1].total) == (0, 4, 4)
    with pytest.raises(ParamsError, match=r"score was 0.7, is 0.5"):
        segment_on_ray([folder], out, settings=Settings(score=0.5))

    # As if one photo had not been reached, and the task of another had been killed before it could say that it is done.
    lost, halfway = sorted((out / "checkpoint").glob("*.parquet"))[:2]
    for data in (out / "photos.parquet").glob(f"{lost.stem}*"):
        data.unlink()
    lost.unlink()
    halfway.rename(halfway.with_name(f"{halfway.stem}.pending.parquet"))
    report = segment_on_ray([folder], out, photos_per_file=1)

    assert (report.photos, report.resumed, len(report.failures)) == (3, 2, 1)
    assert report.failures[0].path == Path("c.jpg")
    assert report.failures[0].reason.startswith(f"{folder / 'c.jpg'} is damaged or cut short")
    assert sorted(p.name for p in out.iterdir()) == sorted((*FILES, "photos.parquet"))
    rows = ds.dataset(out / "photos.parquet", format="parquet").to_table().sort_by("file_name").to_pylist()
    assert [row["file_name"] for row in rows] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert sum(row["objects"] for row in rows) == report.objects > 0

    alone = segment_folder([folder], tmp_path / "alone", load_detector(), pictures=False)
    assert alone.objects == report.objects
    for name in FILES:
        assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name

    refine_results(out / "results_before.json", folder, tmp_path / "alone.json")
    done = refine_on_ray(out / "results_before.json", folder, tmp_path / "refined.json")
    assert done.records == report.objects
    assert (tmp_path / "refined.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
    assert sorted(p.name for p in tmp_path.glob("refined.*")) == ["refined.json", "refined.provenance.json"]
