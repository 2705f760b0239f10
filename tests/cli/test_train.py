from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from crispmask.params import CRFParams
from crispmask.training.detector.config import TrainingConfig


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    (tmp_path / "images").mkdir()
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": 9, "width": 9}],
        "categories": [{"id": 5, "name": "cat"}, {"id": 9, "name": "person"}],
        "annotations": [],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    return ["-a", str(tmp_path / "a.json"), "-i", str(tmp_path / "images")]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list:
    """What the verb passes on, in the place of training and export."""
    pytest.importorskip("torch")
    import crispmask.training.detector.export
    import crispmask.training.detector.loop

    made: list = []

    def train(data, output, config, *, focus, validation, device, workers, save_every, on_step, on_evaluation):
        made.append((data, output, config, focus, validation, device, workers, save_every))
        for step in (3, 4):
            on_step(step, {"a": 1.0, "b": 0.5})
        return output / "checkpoint.pt"

    def export(checkpoint, output, *, focus, category_ids, images):
        made.append((checkpoint, output, focus, category_ids, images))
        return {"boxes": 0.0001, "scores": 0.0, "masks": 0.0, "compared": 7}

    monkeypatch.setattr(crispmask.training.detector.loop, "train", train)
    monkeypatch.setattr(crispmask.training.detector.export, "export_onnx", export)
    return made


def test_what_is_passed_on(invoke, calls, data, tmp_path):
    out = tmp_path / "out"
    options = ["--steps", "7", "--learning-rate", "0.01", "--focus", "person", "--workers", "0"]
    result = invoke("train", *data, "-o", out, *options)
    assert result.exit_code == 0, result.output
    config = replace(TrainingConfig(), steps=7, learning_rate=0.01)
    data_read = calls[0][0]
    assert data_read.ids == {"cat": 5, "person": 9}
    assert [image.path for image in data_read.images] == [tmp_path / "images" / "1.png"]
    assert calls == [
        (data_read, out, config, ["person"], None, "cpu", 0, 200),
        (out / "checkpoint.pt", out / "model.onnx", ["person"], [9], [tmp_path / "images" / "1.png"]),
    ]
    assert "7 detections in ONNX Runtime and torch: boxes within 0.0001 px" in result.stdout
    assert f"--detector {out / 'model.onnx'}" in result.stdout


def test_a_crf_that_was_trained_along(invoke, calls, data, tmp_path, monkeypatch):
    import crispmask.training.detector.joint

    monkeypatch.setattr(
        crispmask.training.detector.joint, "learned_params", lambda checkpoint: CRFParams(theta_beta=7.25)
    )
    out = tmp_path / "out"
    out.mkdir()
    result = invoke("train", *data, "-o", out, "--crf", "--crf-iterations", "3")
    assert result.exit_code == 0, result.output
    assert calls[0][2] == replace(TrainingConfig(), crf=True, crf_iterations=3)
    assert CRFParams.from_toml(out / "crf.toml").theta_beta == 7.25
    assert "theta_beta 7.25" in result.stdout
    assert f"--params {out / 'crf.toml'}" in result.stdout


def test_several_sets(invoke, calls, data, tmp_path):
    assert invoke("train", *data, *data, "-o", tmp_path / "out").exit_code == 0
    assert len(calls[0][0].images) == 2
    assert calls[0][3] is None
    assert calls[1][3] == [5, 9]


def test_sets_that_do_not_fit(refused, data, tmp_path):
    assert "2 annotation files and 1 image folders" in refused("train", *data, *data[:2], "-o", tmp_path / "out")
    assert "there is no annotation file" in refused("train", "-a", "gone.json", *data[2:], "-o", tmp_path / "out")
    assert "there is no image folder" in refused("train", *data[:2], "-i", "gone", "-o", tmp_path / "out")


def test_without_torch(refused, data, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("crispmask.training.detector.")]:
        if name != "crispmask.training.detector.config":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'crispmask[torch]'" in refused("train", *data, "-o", tmp_path / "out")


def test_a_validation_set(invoke, refused, calls, data, tmp_path):
    out = ["-o", tmp_path / "out"]
    assert "belong together" in refused("train", *data, *out, "--val-images", tmp_path)
    assert "patience needs a validation set" in refused("train", *data, *out, "--patience", "3")
    validation = ["--val-annotations", data[1], "--val-images", data[3]]
    assert "1.png does not exist" in refused("train", *data, *out, *validation)
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "1.png")
    content = json.loads((tmp_path / "a.json").read_text())
    square = {"id": 1, "image_id": 1, "category_id": 9, "bbox": [1, 1, 5, 5], "segmentation": [[1, 1, 6, 1, 6, 6]]}
    (tmp_path / "a.json").write_text(json.dumps({**content, "annotations": [square]}))
    assert invoke("train", *data, *out, *validation, "--patience", "3", "--focus", "person").exit_code == 0
    assert calls[0][4].labels == {9: 2}
    assert calls[0][2].patience == 3
