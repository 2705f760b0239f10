from __future__ import annotations

import csv
import json

import pytest

import crispmask
from crispmask.coco import CocoDataset, read_results, results_to_instances, segmentation_to_mask
from crispmask.evaluation.matching import match_results
from crispmask.evaluation.overlap import mask_overlaps
from crispmask.params import CRFParams

GRID = ("--grid", "theta_beta=3,30", "--grid", "iterations=2,4")


def options(discs) -> tuple:
    return "-a", discs.annotations, "-r", discs.results, "-i", discs.images


def test_a_grid_from_files_to_parameters(invoke, discs, tmp_path):
    out = tmp_path / "out"
    command = ("tune", *options(discs), "-o", out, "--objective", "iou", "--folds", "3", *GRID, "--threads", "2")
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == [
        "best.toml", "curves.png", "heat_map.png", "scores.csv", "study.db", "summary.json"
    ]  # fmt: skip
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    assert [row["point"] for row in rows] == ["unrefined", "learned", "start", "1", "2", "3", "4"]
    best = max(rows[2:], key=lambda row: float(row["iou"]))
    params = CRFParams.from_toml(out / "best.toml")
    if best["point"] != "start":
        assert (params.theta_beta, params.iterations) == (float(best["theta_beta"]), int(best["iterations"]))
    summary = json.loads((out / "summary.json").read_text())
    assert summary["images"] == 6
    assert summary["cross_validation"]["mean"]["held_out"] > summary["cross_validation"]["mean"]["unrefined"]
    mean = summary["cross_validation"]["mean"]
    assert summary["recommended"] == (mean["held_out"] > mean["learned"])
    assert (f"crispmask segment IMAGES --params {out / 'best.toml'}" in result.stdout) == summary["recommended"]
    assert ("Keep the default: the learned parameters are" in result.stdout) != summary["recommended"]
    dataset, records = CocoDataset.from_file(discs.annotations), read_results(discs.results)
    masks, ious = {}, []
    for key, info in dataset.images.items():
        chosen = [k for k, record in enumerate(records) if record["image_id"] == key]
        found = results_to_instances([records[k] for k in chosen], *info.size)
        refined = crispmask.refine(crispmask.read_image(discs.images / info.file_name), found)
        masks |= {k: refined.mask(i) for i, k in enumerate(chosen)}
    for match in match_results(dataset, records):
        truth = dataset.annotations[match.image_id][match.annotation]["segmentation"]
        ious.append(mask_overlaps(masks[match.result], segmentation_to_mask(truth, 48, 64))[0])
    assert summary["learned"] == pytest.approx(sum(ious) / len(ious))  # what refine gives by default
    files = {name: (out / name).read_bytes() for name in ("best.toml", "scores.csv", "summary.json", "curves.png")}
    again = invoke(*command)
    assert "Continuing an earlier run, which had measured 4 points." in again.stderr
    assert {name: (out / name).read_bytes() for name in files} == files


def test_tpe(invoke, discs, tmp_path):
    out = tmp_path / "out"
    ranges = ("--range", "theta_beta=2:40:log", "--grid", "colour=rgb,lab")
    result = invoke(
        "tune", *options(discs), "-o", out, "--objective", "iou", "--folds", "2", "--method", "tpe", *ranges,
        "--trials", "3", "--iterations", "2",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert (out / "search.png").exists()
    assert CRFParams.from_toml(out / "best.toml").iterations == 2
    assert len((out / "scores.csv").read_text().splitlines()) == 1 + 3 + 3


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (("--grid", "theta_bta=3"), "--grid: unknown parameter 'theta_bta'; did you mean 'theta_beta'?"),
        (("--grid", "theta_beta="), "--grid 'theta_beta=' has no values: write --grid theta_beta=VALUE,VALUE,..."),
        (("--grid", "theta_beta=0"), "--grid: theta_beta must be at least 0.001, got 0"),
        (("--grid", "theta_beta=3", "--grid", "theta-beta=5"), "theta_beta is given twice: name each parameter once"),
        (("--grid", "smoothing_soft=0,1"), "smoothing_soft has no effect here"),
        (("--range", "theta_beta=3:5"), "--range is for --method tpe"),
        (("--folds", "9"), "9 folds are more than the 6 images that can be used: give fewer"),
        (("--images", "/nowhere"), "there is no image folder /nowhere"),
        (("--score", "1"), "none of the 0 detections in"),
    ],
)
def test_refusals(refused, discs, tmp_path, extra, sentence):
    assert sentence in refused("tune", *options(discs), "-o", tmp_path / "out", *extra)
    assert not (tmp_path / "out").exists()


def test_a_damaged_study_and_one_of_other_settings(refused, discs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "study.db").write_text("x" * 5000)
    assert "is not a study of crispmask, or is damaged" in refused("tune", *options(discs), "-o", out)
    (out / "file").touch()
    assert "is a file: name a folder" in refused("tune", *options(discs), "-o", out / "file")
