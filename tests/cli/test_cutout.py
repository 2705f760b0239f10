from __future__ import annotations

import numpy as np
from PIL import Image


def photo(path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return path


def test_cutout(invoke, detector, tmp_path):
    done = invoke("cutout", photo(tmp_path / "photo.png"), "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert f"Cut-outs   {tmp_path / 'out'}/cutouts" in done.stdout
    with Image.open(tmp_path / "out/cutouts/photo/1-person.png") as file:
        assert file.mode == "RGBA"
        alpha = np.asarray(file)[:, :, 3]
    assert alpha.shape < (40, 60)
    assert alpha.max() == 255
    assert not (tmp_path / "out/pictures").exists()

    options = ("--full-size", "--together")
    assert invoke("cutout", tmp_path / "photo.png", "-o", tmp_path / "out", *options).exit_code == 0
    assert [file.name for file in (tmp_path / "out/cutouts/photo").iterdir()] == ["all.png"]
    with Image.open(tmp_path / "out/cutouts/photo/all.png") as file:
        assert file.size == (60, 40)


def test_segment_with_cutouts(invoke, detector, tmp_path):
    done = invoke("segment", photo(tmp_path / "photo.png"), "-o", tmp_path / "out", "--cutouts")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out/cutouts/photo/1-person.png").exists()
    assert (tmp_path / "out/pictures/photo.jpg").exists()


def test_what_is_refused(refused, detector, tmp_path):
    assert "does not exist" in refused("cutout", tmp_path / "photo.png")
    image = photo(tmp_path / "photo.png")
    assert "--cutouts is for --engine local" in refused(
        "segment", image, "-o", tmp_path / "out", "--cutouts", "--engine", "ray"
    )
