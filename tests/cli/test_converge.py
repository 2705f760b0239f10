from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def image(tmp_path, detector):
    """An image whose middle half, which the detector finds, is nearly the object."""
    rng = np.random.default_rng(0)
    image = rng.integers(60, 75, (48, 64, 3))
    image[14:38, 14:50] += 120
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_an_image(invoke, image, tmp_path):
    result = invoke("converge", image, "-o", tmp_path / "out", "--follow", "8")
    assert result.exit_code == 0, result.output
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert found == ["convergence.png", "iterations.csv", "objects.csv", "sheets/image.png"]
    rows = list(csv.DictReader((tmp_path / "out/iterations.csv").read_text().splitlines()))
    assert [row["iteration"] for row in rows] == [str(t) for t in range(9)]
    assert float(rows[0]["relative_kl_q50"]) == 1
    assert "Iterations until a mask is settled, 1 object of 1 image" in result.stdout


def test_a_data_set(invoke, discs, tmp_path):
    out = tmp_path / "out"
    source = ("-a", discs.annotations, "-r", discs.results, "-i", discs.images, "--score", "0.11")
    result = invoke("converge", *source, "-o", out, "--follow", "5", "--sheets", "2", "--limit", "4", "--threads", "2")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (out / "sheets").iterdir()) == ["1.png", "2.png"]
    rows = list(csv.DictReader((out / "objects.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["1.png", "1.png", "2.png", "3.png", "3.png", "4.png"]
    one = invoke(
        "converge", *source, "-o", tmp_path / "one", "--follow", "5", "--sheets", "0", "--limit", "4", "--threads", "1"
    )
    assert one.exit_code == 0
    for name in ("objects.csv", "iterations.csv", "convergence.png"):
        assert (tmp_path / "one" / name).read_bytes() == (out / name).read_bytes()


def test_refusals(refused, image, discs, tmp_path):
    out = ("-o", tmp_path / "out")
    assert "give images, or --results" in refused("converge", *out)
    assert "give images, or --results" in refused("converge", image, "-r", discs.results, *out)
    assert "--results needs --annotations and --images" in refused("converge", "-r", discs.results, *out)
    assert "no object with a score of 0.9 or more in 1 image" in refused("converge", image, "--score", "0.9", *out)
    assert "score must be a number in [0, 1]" in refused("converge", image, "--score", "7", *out)
    assert "does not exist" in refused("converge", tmp_path / "gone.png", *out)
    assert not (tmp_path / "out").exists()


def test_learned_parameters_are_no_single_setting(refused, discs, tmp_path):
    command = ("converge", "-a", discs.annotations, "-r", discs.results, "-i", discs.images, "-o", tmp_path / "out")
    assert "this verb needs one setting for all: give 'fixed', 'paper'" in refused(*command, "--params", "learned")
    assert "the parameters 'default' are called 'learned' now" in refused(*command, "--params", "default")
