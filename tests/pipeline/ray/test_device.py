"""The refinement on a GPU of a cluster; Ray is told of one, whether this machine has it or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from crispmask.errors import CrispmaskError, ParamsError
from crispmask.pipeline import Settings
from crispmask.samples import sample_images

ray = pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
pa = pytest.importorskip("pyarrow")
torch = pytest.importorskip("torch", reason="extra torch is not installed")

from crispmask.pipeline.ray import engine, refine_on_ray, segment_on_ray  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """One node of two processors and so many GPUs as the test says."""
    options = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1", "log_to_driver": False}
    ray.init(num_cpus=2, num_gpus=request.param, object_store_memory=100_000_000, logging_level="ERROR", **options)
    yield
    ray.shutdown()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    with Image.open(sample_images()[0]) as image:
        image.thumbnail((240, 240))
        image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("cluster", [1], indirect=True)
def test_actors_have_it(cluster: None, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refining actor has its share; where the machine has no such device, the run ends and says so."""

    def told(batch: pa.Table) -> pa.Table:
        return pa.table({"gpus": [str(ray.get_gpu_ids())] * batch.num_rows, "objects": [0] * batch.num_rows})

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    counter = ray.remote(engine._Counter).options(num_cpus=0).remote()
    if torch.cuda.is_available():
        rows = engine.counted(ray.data.range(3), told, counter, "cuda", 0.5)
        assert {row["gpus"] for row in rows.take_all()} == {"[0]"}
        assert ray.get(counter.read.remote()) == (3, 0)
        assert segment_on_ray([photo], tmp_path / "out", device="cuda", gpus=0.5, json=False).images == 1
    else:
        with pytest.raises(CrispmaskError, match="device 'cuda' cannot be used") as caught:
            segment_on_ray([photo], tmp_path / "out", device="cuda", json=False)
        assert "\n" not in str(caught.value)
        # A detector in ONNX works on the CPU where ONNX Runtime knows no GPU.
        assert segment_on_ray([photo], tmp_path / "other", gpus=0.5, json=False).images == 1
    assert {row["gpus"] for row in engine.counted(ray.data.range(3), told, counter, None, None).take_all()} == {"[]"}


@pytest.mark.parametrize("cluster", [0], indirect=True)
def test_a_cluster_without_one(cluster: None, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('[{"image_id": 1, "category_id": 1, "bbox": [9, 9, 90, 90], "score": 0.5}]')
    images = [{"id": 1, "file_name": "photo.png", "width": 240, "height": 240}]
    known = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "images.json").write_text(json.dumps(known))
    with pytest.raises(ParamsError, match="no machine of the cluster has a GPU"):
        segment_on_ray([photo], tmp_path / "out", device="cuda")
    with pytest.raises(ParamsError, match="no machine of the cluster has a GPU"):
        refine_on_ray(tmp_path / "r.json", tmp_path, tmp_path / "o.json", Settings(score=0), device="cuda")


def test_a_device_that_clusters_do_not_have(photo: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="on a cluster the device is cpu or cuda, not 'mps'"):
        segment_on_ray([photo], tmp_path / "out", device="mps")
    assert not (tmp_path / "out").exists()
