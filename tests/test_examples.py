"""The examples run, write their pictures, get better by what they show, and agree with the exact CRF."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage", reason="the examples take their photos from scikit-image")
EXAMPLES = Path(__file__).parents[1] / "examples"
AGREEMENT = re.compile(r"on (\d+) points: mean \|dQ\| ([\d.]+), equal labels ([\d.]+)%")


@pytest.fixture
def run_example(tmp_path, monkeypatch, capsys):
    """Runs an example at a size: its output, its picture, and per check (points, mean |dQ|, percent of labels)."""

    def run(name: str, size: int) -> tuple[str, np.ndarray, np.ndarray]:
        picture = tmp_path / f"{name}.png"
        monkeypatch.syspath_prepend(str(EXAMPLES))
        monkeypatch.setattr(sys, "argv", [name, "-o", str(picture), "--size", str(size)])
        try:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        finally:
            sys.modules.pop("common", None)
        text = capsys.readouterr().out
        checks = np.array(AGREEMENT.findall(text), float)
        assert len(checks)
        assert (checks[:, 0] >= 500).all()
        return text, np.asarray(Image.open(picture)), checks

    return run


def _panels(picture: np.ndarray, count: int) -> list[np.ndarray]:
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    return np.array_split(picture[30:], count, axis=1)


def _percent(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def test_rgb_and_lab_both_move_the_outline(run_example):
    text, picture, checks = run_example("rgb_lab", 400)
    coarse, rgb, lab = _panels(picture, 3)
    assert not np.array_equal(coarse, rgb)
    assert not np.array_equal(rgb, lab)
    for space in ("RGB", "Lab"):
        assert 1 < _percent(text, rf"{space}: ([\d.]+)% of the pixels changed") < 20
    assert (checks[:, 1] < 0.01).all()
    assert (checks[:, 2] > 99).all()


def test_features_find_what_grey_values_do_not(run_example):
    text, picture, checks = run_example("deep_features", 192)
    assert len({panel.tobytes() for panel in _panels(picture, 4)}) == 4
    grey = _percent(text, r"grey values: ([\d.]+)%")
    assert _percent(text, r"filter bank.*: ([\d.]+)%") > grey + 10
    # Most points have no unary of their own, so that an error of the lattice turns a label more easily.
    assert (checks[:, 1] < 0.03).all()
    assert (checks[:, 2] > 96).all()


def test_volume_is_denoised(run_example):
    text, picture, checks = run_example("volume", 40)
    assert len({panel.tobytes() for panel in _panels(picture, 4)}) == 4
    before = _percent(text, r"on their own ([\d.]+)")
    assert _percent(text, r"with the CRF ([\d.]+)") > before + 0.3
    assert (checks[:, 1] < 0.01).all()
    assert (checks[:, 2] > 99).all()


def test_strokes_become_labels(run_example):
    text, picture, checks = run_example("multilabel", 384)
    assert len({panel.tobytes() for panel in _panels(picture, 3)}) == 3
    shares = [float(share) for share in re.findall(r"([\d.]+)%", text.splitlines()[0])]
    assert len(shares) == 6
    assert min(shares) > 1
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert (checks[:, 1] < 0.02).all()
    assert (checks[:, 2] > 97).all()


def test_the_layer_learns_the_bandwidths(run_example):
    pytest.importorskip("torch", reason="extra torch is not installed")
    text, picture, checks = run_example("crf_layer", 36)
    found = re.findall(r"true ([\d.]+), start ([\d.]+), learned ([\d.]+)", text)
    true, start, learned = np.array(found, float).T
    assert len(true) == 5
    assert (abs(start / true - 1) > 0.3).all()
    assert (abs(learned / true - 1) < 0.1).all()
    assert len({panel.tobytes() for panel in _panels(picture, 4)}) > 2
    assert _percent(text, r"start: ([\d.]+)%") < 99
    assert _percent(text, r"learned: ([\d.]+)%") > 99.5
    assert (checks[:, 1] < 0.02).all()


def test_without_output_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "argv", ["volume", "--size", "16"])
    runpy.run_path(str(EXAMPLES / "volume.py"), run_name="__main__")
    sys.modules.pop("common", None)
    assert "wrote" not in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
