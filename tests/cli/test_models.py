from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from crispmask.detectors.weights import NAMES, WEIGHTS


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_list_says_what_is_here(invoke, torch_home):
    torch_home.mkdir(parents=True)
    here = torch_home / WEIGHTS[NAMES[1]].file_name
    here.touch()
    result = invoke("models", "list")
    assert result.exit_code == 0, result.output
    rows = [line.split(maxsplit=1) for line in result.stdout.splitlines() if line]
    states = {row[0]: row[1].strip() for row in rows if row[0] in ("embedded", *NAMES)}
    assert states["embedded"].endswith("in the package")
    assert all("Apache-2.0" in states[name] or "BSD" in states[name] for name in states)
    assert states[NAMES[0]].endswith("not fetched yet")
    assert states[NAMES[1]].endswith("on this machine")
    # What a user copies stands on one line, however narrow the terminal and long the path.
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert f"crispmask models pull {NAMES[0]}" in lines
    assert f"crispmask models pull {NAMES[1]}" not in lines
    assert str(here) in lines


def test_the_classes_of_a_detector(invoke, monkeypatch):
    asked = []
    detector = SimpleNamespace(categories={1: "person", 90: "toothbrush"})
    monkeypatch.setattr("crispmask.detectors.load_detector", lambda name: asked.append(name) or detector)
    assert invoke("models", "classes").stdout == "   1  person\n  90  toothbrush\n"
    assert invoke("models", "classes", "mine.onnx").exit_code == 0
    assert asked == ["embedded", "mine.onnx"]


def test_list_needs_no_torch():
    code = "import sys; sys.modules.update(torch=None, torchvision=None)\nfrom crispmask.cli import app\n"
    code += "app(['models', 'list'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in NAMES)


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
