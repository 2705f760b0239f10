from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crispmask.cli.crf import read_params
from crispmask.coco import CocoDataset, read_results
from crispmask.errors import ParamsError
from crispmask.files import locked
from crispmask.params import CRFParams
from crispmask.refinement import default_params


def photo(path: Path, height: int = 40, width: int = 60) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


def truncated(path: Path) -> Path:
    content = photo(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def bomb(path: Path) -> Path:
    """A PNG of 135 bytes that claims 3.6 gigapixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def raw(content: bytes):
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_photo(invoke, detector, tmp_path):
    result = invoke("segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("1 object in 1 image, ")
    assert f"Masks      {tmp_path / 'out' / 'results.json'}" in result.stdout
    assert result.stderr == ""
    assert files(tmp_path / "out") == [
        "images.json",
        "pictures/a.jpg",
        "provenance.json",
        "results.json",
        "results_before.json",
    ]


def test_options_reach_the_run(invoke, detector, tmp_path):
    source, out = photo(tmp_path / "a.png"), tmp_path / "out"

    def run(*options: object) -> tuple[bytes, bytes]:
        result = invoke("segment", source, "-o", out, "--overwrite", *options)
        assert result.exit_code == 0, result.output
        return (out / "results_before.json").read_bytes(), (out / "results.json").read_bytes()

    run("--score", 0.81, "--no-pictures")
    assert read_results(out / "results.json") == []
    assert "pictures" not in files(out)
    before, after = run("--no-refine")
    assert before == after
    fixed = ("--params", "fixed", "--bilateral-weight", 0, "--smoothing", 0, "--smoothness-weight")
    before, after = run(*fixed, 0)
    assert before == after
    before, after = run(*fixed, 50, "--iterations", 3, "--threads", 1)
    assert before != after


def test_classes_and_tiles(invoke, detector, tmp_path):
    detector.categories = {1: "person", 18: "dog"}
    out = tmp_path / "out"
    command = ("segment", photo(tmp_path / "a.png"), "-o", out, "--no-pictures", "--tiles", 2, "--classes")
    assert invoke(*command, "Person").stdout.startswith("1 object in 1 image, ")
    settings = json.loads((out / "provenance.json").read_text())["settings"]
    assert (settings["classes"], settings["tiles"], settings["score"]) == (["person"], 2, 0.7)
    assert CocoDataset.from_file(out / "images.json").categories == {1: "person"}
    again = invoke(*command, "18", "--overwrite")
    assert again.stdout.startswith("0 objects in 1 image, ")
    assert "The detector looks for dog, with a score of 0.7 or more" in again.stdout


def test_results_of_another_run(invoke, refused, detector, tmp_path):
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png")
    out = tmp_path / "out"
    assert invoke("segment", tmp_path / "*.png", "-o", out).exit_code == 0
    sentence = refused("segment", tmp_path / "a.png", "-o", out)
    assert sentence.startswith(f"{out} holds the results of another run (sources was [")
    assert sentence.endswith("choose another folder, or add --overwrite, which removes them first")
    assert files(out / "pictures") == ["a.jpg", "b.jpg"]
    assert invoke("segment", tmp_path / "a.png", "-o", out, "--overwrite").exit_code == 0
    assert files(out / "pictures") == ["a.jpg"]


def test_nothing_found_says_what_was_looked_for(invoke, detector, tmp_path):
    result = invoke("segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out", "--score", 0.9)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("0 objects in 1 image, ")
    assert lines[1] == (
        "The detector looks for person, with a score of 0.9 or more: lower --score, or choose another --detector."
    )


def test_files_that_were_not_or_not_wholly_read(invoke, detector, tmp_path, without_heif):
    photo(tmp_path / "a.png")
    for name in ("x.heic", "y.HEIC", "z.nef"):
        (tmp_path / name).touch()
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    result = invoke("segment", tmp_path, "-o", tmp_path / "out", "--no-pictures")
    assert result.exit_code == 0, result.output
    assert "2 objects in 2 images" in result.stdout
    assert (
        "Left out, since their format cannot be read: 2 .heic (x.heic, y.HEIC): pip install pillow-heif, and crispmask "
        "reads HEIC; 1 .nef (z.nef): convert them to JPEG, PNG or TIFF.\n"
    ) in result.stdout
    assert "Only the first frame or page was used of 1 file with several: moving.gif.\n" in result.stdout


def test_two_runs_into_one_folder(refused, detector, tmp_path):
    with locked(tmp_path / "out"):
        sentence = refused("segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out")
    assert sentence.startswith(f"{tmp_path / 'out'} is in use by process {os.getpid()} on ")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (truncated, "is damaged or cut short"),
        (raw(b""), "is empty"),
        (raw(b"no image at all" * 9), "is not an image"),
        (bomb, "more pixels than"),
    ],
)
def test_a_bad_photo_is_refused(refused, detector, tmp_path, make, reason):
    path = make(tmp_path / "bad.png")
    sentence = refused("segment", path, "-o", tmp_path / "out")
    assert str(path) in sentence
    assert reason in sentence
    assert not (tmp_path / "out").exists()


def test_a_bad_photo_among_good_ones(invoke, detector, tmp_path):
    photo(tmp_path / "a.png")
    truncated(tmp_path / "b.png")
    photo(tmp_path / "c.png")
    result = invoke("segment", tmp_path / "*.png", tmp_path / "gone.jpg", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "2 objects in 2 images" in result.stdout
    assert "2 of 4 images could not be used." in result.stdout
    assert [line.split(" ", 2)[:2] for line in result.stderr.splitlines()] == [
        ["Error:", str(tmp_path / "b.png")],
        ["Error:", str(tmp_path / "gone.jpg")],
    ]
    assert files(tmp_path / "out" / "pictures") == ["a.jpg", "c.jpg"]


def cmyk(path: Path) -> Path:
    Image.new("CMYK", (60, 40), (10, 200, 30, 0)).save(path.with_suffix(".jpg"))
    return path.with_suffix(".jpg")


def grey(path: Path) -> Path:
    Image.new("L", (60, 40), 90).save(path)
    return path


def deep(path: Path) -> Path:
    Image.fromarray(np.full((40, 60), 40_000, np.uint16)).save(path)
    return path


def transparent(path: Path) -> Path:
    Image.new("RGBA", (60, 40), (9, 9, 9, 128)).save(path)
    return path


def turned(path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright: rows and columns swap
    Image.new("RGB", (40, 60), "red").save(path.with_suffix(".jpg"), exif=exif)
    return path.with_suffix(".jpg")


@pytest.mark.parametrize("make", [cmyk, grey, deep, transparent, turned])
def test_unusual_photos_are_converted(invoke, detector, tmp_path, make):
    path = make(tmp_path / "photo.png")
    result = invoke("segment", path, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert CocoDataset.from_file(tmp_path / "out" / "images.json").images[1].size == (40, 60)
    assert len(read_results(tmp_path / "out" / "results.json")) == 1


def test_missing_sources(refused, detector, tmp_path):
    assert (
        refused("segment", tmp_path / "gone.jpg", "-o", tmp_path / "out") == f"{tmp_path / 'gone.jpg'} does not exist"
    )
    (tmp_path / "empty").mkdir()
    assert "holds no image" in refused("segment", tmp_path / "empty", "-o", tmp_path / "out")
    assert "holds no image" in refused("segment", tmp_path / "*.jpg", "-o", tmp_path / "out")
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--theta-alpha", "-3"], "theta_alpha must be at least 0.001"),
        (["--colour", "red"], "colour must be one of rgb, lab"),
        (["--theta-beta", "nan"], "theta_beta must be a finite number"),
        (["--score", "1.5"], "score must be a number in [0, 1]"),
        (["--classes", "dog"], "the detector has no class 'dog': It finds person"),
        (["--params", "gone.toml"], "cannot read gone.toml"),
        (["--params", "papr"], "unknown parameters 'papr': give 'learned', 'fixed', 'paper'"),
    ],
)
def test_bad_options(refused, detector, tmp_path, options, reason):
    assert reason in refused("segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_a_typo_in_the_parameter_file(refused, detector, tmp_path):
    (tmp_path / "p.toml").write_text("theta_alhpa = 3\n")
    sentence = refused("segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out", "--params", tmp_path / "p.toml")
    assert sentence == f"{tmp_path / 'p.toml'}: unknown parameter 'theta_alhpa'; did you mean 'theta_alpha'?"
    (tmp_path / "p.toml").write_text("theta_alpha = = 3\n")
    sentence = refused("segment", tmp_path / "a.png", "-o", tmp_path / "out", "--params", tmp_path / "p.toml")
    assert "is not valid TOML" in sentence


def test_annotations_that_do_not_name_the_photo(refused, detector, tmp_path):
    gt = tmp_path / "gt.json"
    gt.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}))
    sentence = refused("segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out", "--annotations", gt)
    assert sentence == f"{gt} has no image 'a.png' (it names 0 images)"
    gt.write_text("{")
    assert "is not valid JSON" in refused("segment", tmp_path / "a.png", "-o", tmp_path / "out", "--annotations", gt)
    assert not (tmp_path / "out").exists()


def test_output_is_a_file(refused, detector, tmp_path):
    path = photo(tmp_path / "a.png")
    before = path.read_bytes()
    assert "is a file" in refused("segment", path, "-o", path)
    assert path.read_bytes() == before


def test_interrupted_and_continued(invoke, detector, tmp_path, monkeypatch):
    for name in "abc":
        photo(tmp_path / f"{name}.png")
    calls = []

    def interrupting(image: np.ndarray):
        calls.append(image)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return type(detector)()(image)

    for name in ("name", "checksum", "categories"):
        setattr(interrupting, name, getattr(detector, name))
    out, source = tmp_path / "out", tmp_path / "*.png"
    with monkeypatch.context() as patch:
        patch.setattr("crispmask.detectors.load_detector", lambda name, **options: interrupting)
        stopped = invoke("segment", source, "-o", out)
    assert stopped.exit_code == 130
    assert stopped.stderr == "Interrupted: the same command continues from here.\n"
    refused = invoke("segment", source, "-o", out, "--score", 0.1)
    assert refused.exit_code == 1
    assert "score was 0.7, is 0.1" in refused.stderr
    refused = invoke("segment", source, "-o", out, "--classes", "person")
    assert refused.exit_code == 1
    assert "classes was None, is ['person']" in refused.stderr
    resumed = invoke("segment", source, "-o", out)
    assert resumed.exit_code == 0
    assert resumed.stderr == "Continuing an interrupted run, which had finished 2 of 3 images.\n"
    invoke("segment", source, "-o", tmp_path / "undisturbed")
    assert files(out) == files(tmp_path / "undisturbed")
    for name in files(out):
        assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


def test_parameters_by_name_file_and_option(tmp_path):
    assert read_params("learned", {}) is default_params()
    assert read_params("fixed", {}) == CRFParams()
    assert read_params("paper", {}) == CRFParams.paper()
    assert read_params("paper", {"theta_beta": 3.0}).theta_alpha == 60
    CRFParams(theta_beta=8.0, iterations=2).to_toml(tmp_path / "p.toml")
    assert read_params(str(tmp_path / "p.toml"), {"iterations": 4}) == CRFParams(theta_beta=8.0, iterations=4)
    with pytest.raises(ParamsError, match="iterations must be at least 0"):
        read_params("learned", {"iterations": -1})


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "crispmask", *arguments], capture_output=True, text=True, check=False)


def test_unknown_detector(tmp_path):
    done = run("segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out", "--detector", "yolo99")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: unknown detector 'yolo99'")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_none(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    done = run("segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out", "--detector", tmp_path / "m.onnx")
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {tmp_path / 'm.onnx'} is not a model")
    assert len(done.stderr.splitlines()) == 1


def test_the_embedded_detector_end_to_end(tmp_path):
    from crispmask.samples import sample_images

    done = run("segment", sample_images()[0].parent, "-o", tmp_path / "out", "--threads", "1")
    assert done.returncode == 0, done.stderr
    found = {r["image_id"] for r in read_results(tmp_path / "out" / "results.json")}
    assert {1, 2, 5} <= found  # in the order of their names: the photos of people
