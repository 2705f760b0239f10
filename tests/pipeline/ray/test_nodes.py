"""Whole runs on a real cluster of node processes, as `ray start` makes them; every wait here has a limit."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from crispmask.samples import sample_images

pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
pq = pytest.importorskip("pyarrow.parquet")

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
pytestmark = pytest.mark.slow
LIMIT = 300  # seconds that a run may take


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes of one processor each."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from nodes import Cluster

    with Cluster(2, object_store=100_000_000) as started:
        yield started


@pytest.fixture
def photos(tmp_path) -> Path:
    """Six images, and three manifests with two of them each: a node takes at least one manifest at a time."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(6):
        image = Image.open(sample_images()[k % 2])
        image.thumbnail((360 + 20 * k, 360 + 20 * k))
        image.save(folder / f"{k}.png")
    for k in range(3):
        rows = [{"file_name": f"{2 * k}.png"}, {"file_name": f"{2 * k + 1}.png"}]
        (folder / f"{k}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def start(*line: object, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start crispmask in a process of its own."""
    command = [sys.executable, "-m", "crispmask", *map(str, line)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes]) -> list[str]:
    """Wait until it has ended well; what its summary says of the gate."""
    try:
        output, _ = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode == 0, output.decode()
    return [line for line in output.decode().splitlines() if "left alone" in line]


def some_are_done(output: Path, process: subprocess.Popen[bytes]) -> bool:
    """Wait until images are finished; False where the run has ended before that was seen."""
    for _ in range(10 * LIMIT):
        if process.poll() is not None:
            return False
        if any(not path.name.endswith(".pending.parquet") for path in (output / "checkpoint").glob("*.parquet")):
            return True
        time.sleep(0.1)
    return True


def test_the_same_bytes_as_without_a_cluster_though_a_node_is_lost(cluster, photos, tmp_path):
    local, out = tmp_path / "local", tmp_path / "out"
    expected = finish(start("segment", photos, "-o", local, "--no-pictures"))
    engine = ("--engine", "ray", "--address", cluster.address, "--images-per-file", 1)
    manifests = sorted(photos.glob("*.jsonl"))
    run = start("segment", *manifests, "-o", out, *engine, environment=cluster.environment)
    if some_are_done(out, run):
        cluster.kill(-1)
    assert finish(run) == expected
    for name in ("results.json", "results_before.json", "images.json"):
        assert (out / name).read_bytes() == (local / name).read_bytes()
    rows = pq.read_table(out / "images.parquet")
    assert sorted(rows["file_name"].to_pylist()) == [f"{k}.png" for k in range(6)]
    assert sum(rows["objects"].to_pylist()) > 0

    # One node of one processor is left.
    before = local / "results_before.json"
    expected = finish(start("refine", before, "-i", photos, "-o", tmp_path / "local.json"))
    line = ("refine", before, "-i", photos, "-o", tmp_path / "ray.json", *engine)
    assert finish(start(*line, environment=cluster.environment)) == expected
    assert (tmp_path / "ray.json").read_bytes() == (tmp_path / "local.json").read_bytes()
