from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from crispmask.coco import instances_to_results
from crispmask.instances import Instances
from crispmask.refinement import LearnedParams, read_params

QUICK = ["--init", "none", "--samples", 2, "--batch-size", 1, "--precision", "float16", "--held-out", 0.4]
QUICK += ["--measured", 10, "--workers", 0, "--threads", 1]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Six images of a bright square, and a detector's masks of it, two pixels off; few settings, small crops."""
    batches = pytest.importorskip("crispmask.training.refiner.batches", reason="the extra torch is not installed")
    from crispmask.training.refiner import settings

    monkeypatch.setattr(batches, "SIZES", (64,))
    monkeypatch.setattr(batches, "SIZE_CHANCES", (1.0,))
    monkeypatch.setattr(settings, "GRID", {"theta_alpha": (0.05,)})
    monkeypatch.setattr(settings, "TEMPERATURES", (1.0,))
    rng = np.random.default_rng(0)
    images, annotations, results = [], [], []
    for k in range(1, 7):
        truth = np.zeros((60, 60), bool)
        truth[15:45, 18 : 40 + k] = True
        image = np.where(truth[..., None], (210, 190, 80), (50, 60, 90)) + rng.normal(0, 4, (60, 60, 3))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(tmp_path / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "height": 60, "width": 60})
        annotations.append({**instances_to_results(Instances.from_masks(truth), k)[0], "id": k, "iscrowd": 0})
        results += instances_to_results(Instances.from_masks(np.roll(truth, 2, 0), scores=[0.9]), k)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    return ["-a", tmp_path / "gt.json", "-i", tmp_path, "-r", tmp_path / "dt.json"]


def test_learned_parameters_are_used_by_segment(invoke, data, tmp_path, detector):
    done = invoke("learn", *data, "-o", tmp_path / "learned", *QUICK)
    assert done.exit_code == 0, done.output
    assert "detector" in done.stdout
    assert "mask head" in done.stdout
    params = tmp_path / "learned" / "params.toml"
    assert isinstance(read_params(params), LearnedParams)
    done = invoke("segment", tmp_path / "1.png", "-o", tmp_path / "out", "--params", params, "--no-pictures")
    assert done.exit_code == 0, done.output
    before, after = (json.loads((tmp_path / "out" / f).read_text()) for f in ("results_before.json", "results.json"))
    assert len(before) == len(after) == 1

    network = tmp_path / "learned" / "network.onnx"
    done = invoke("learn", *data[:4], "-o", tmp_path / "gate", "--no-training", "--init", network, "--threads", 1)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "gate" / "network.onnx").read_bytes() == network.read_bytes()


def test_an_interrupted_run_says_how_to_go_on(invoke, data, tmp_path, monkeypatch):
    from crispmask.training.refiner import run

    def stop(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "fit", stop)
    done = invoke("learn", *data, "-o", tmp_path / "learned", *QUICK)
    assert done.exit_code != 0
    assert "the same command goes on from here" in done.stderr
    assert (tmp_path / "learned" / "unfinished").is_dir()


def test_one_result_file_for_each_annotation_file(refused, data, tmp_path):
    assert "2 results were given" in refused("learn", *data, "-r", tmp_path / "dt.json", "-o", tmp_path / "o")


def test_a_device_that_there_is_not(refused, data, tmp_path):
    assert "'teapot'" in refused("learn", *data, "-o", tmp_path / "o", *QUICK, "--device", "teapot")


def test_without_torch_it_is_refused_before_the_work(refused, data, tmp_path, monkeypatch):
    for name in [m for m in sys.modules if m.startswith("crispmask.training.refiner.run")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'crispmask[torch]'" in refused("learn", *data, "-o", tmp_path / "learned")
    assert not (tmp_path / "learned").exists()
