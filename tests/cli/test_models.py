from __future__ import annotations

import pytest

from crispmask.detectors.weights import NAMES, weights_of


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    pytest.importorskip("torchvision", reason="extra torch is not installed")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_list_says_what_is_here(invoke, torch_home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # so that no cell wraps
    torch_home.mkdir(parents=True)
    (torch_home / weights_of(NAMES[1]).file_name).touch()
    result = invoke("models", "list")
    assert result.exit_code == 0, result.output
    words = " ".join(result.stdout.split())
    assert "embedded people" in words
    assert f"crispmask models pull {NAMES[0]}" in words
    assert f"crispmask models pull {NAMES[1]}" not in words


def test_pull_refuses_in_one_sentence(refused, torch_home, tmp_path):
    (tmp_path / "wrong.pth").write_bytes(b"wrong")
    assert "is cut short, or not the weights of" in refused(
        "models", "pull", NAMES[0], "--from", tmp_path / "wrong.pth"
    )
    assert "there is no model 'yolo'" in refused("models", "pull", "yolo")


def test_a_detector_that_cannot_be_fetched(refused, torch_home, tmp_path, monkeypatch):
    from PIL import Image

    Image.new("RGB", (9, 9)).save(tmp_path / "photo.png")
    monkeypatch.setenv("CRISPMASK_MODELS_URL", "http://127.0.0.1:1")
    sentence = refused("segment", tmp_path / "photo.png", "-o", tmp_path / "out", "--detector", NAMES[0])
    assert f"then run crispmask models pull {NAMES[0]} --from FILE" in sentence
