from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from crispmask.coco import instances_to_results
from crispmask.instances import Instances
from crispmask.refinement import LearnedParams, read_params


@pytest.fixture
def data(tmp_path):
    """Six photos of a bright square, and a detector's masks of it, two pixels off."""
    rng = np.random.default_rng(0)
    images, annotations, results = [], [], []
    for k in range(1, 7):
        truth = np.zeros((60, 60), bool)
        truth[15:45, 18 : 40 + k] = True
        photo = np.where(truth[..., None], (210, 190, 80), (50, 60, 90)) + rng.normal(0, 4, (60, 60, 3))
        Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)).save(tmp_path / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "height": 60, "width": 60})
        annotations.append({**instances_to_results(Instances.from_masks(truth), k)[0], "id": k, "iscrowd": 0})
        results += instances_to_results(Instances.from_masks(np.roll(truth, 2, 0), scores=[0.9]), k)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    return ["-a", tmp_path / "gt.json", "-i", tmp_path, "-r", tmp_path / "dt.json"]


def test_learnt_parameters_are_used_by_segment(invoke, data, tmp_path, detector):
    done = invoke("learn", *data, "-o", tmp_path / "learnt", "--no-network", "--threads", 1)
    assert done.exit_code == 0, done.output
    assert "results" in done.stdout
    params = tmp_path / "learnt" / "params.toml"
    assert isinstance(read_params(params), LearnedParams)
    done = invoke("segment", tmp_path / "1.png", "-o", tmp_path / "out", "--params", params, "--no-pictures")
    assert done.exit_code == 0, done.output
    before, after = (json.loads((tmp_path / "out" / f).read_text()) for f in ("results_before.json", "results.json"))
    assert len(before) == len(after) == 1


def test_the_summary_says_how_many_masks_were_left_alone(invoke, data, tmp_path, detector):
    invoke("learn", *data, "-o", tmp_path / "learnt", "--no-network", "--threads", 1)
    params = tmp_path / "learnt" / "params.toml"
    text = params.read_text()
    margin = next(line for line in text.splitlines() if line.startswith("margin"))
    params.write_text(text.replace(margin, "margin = 0.9"))
    done = invoke("segment", tmp_path / "1.png", "-o", tmp_path / "out", "--params", params, "--no-pictures")
    assert "1 of 1 mask left alone: 1 " in done.stdout


def test_one_result_file_for_each_annotation_file(refused, data, tmp_path):
    assert "2 results were given" in refused("learn", *data, "-r", tmp_path / "dt.json", "-o", tmp_path / "o")


def test_a_detector_made_the_masks(invoke, data, tmp_path, detector):
    done = invoke("learn", *data[:4], "--detector", "box", "--no-network", "--views", 1, "-o", tmp_path / "learnt")
    assert done.exit_code == 0, done.output
    assert "changed" in done.stdout


def test_without_torch_the_network_is_refused_before_the_work(refused, data, tmp_path, monkeypatch):
    for name in [m for m in sys.modules if m.startswith("crispmask.training.refiner.fit")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'crispmask[torch]'" in refused("learn", *data, "-o", tmp_path / "learnt")
    assert not (tmp_path / "learnt").exists()
