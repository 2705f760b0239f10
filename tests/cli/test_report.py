from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from crispmask.coco import instances_to_results, mask_to_rle, write_results
from crispmask.instances import Instances


@pytest.fixture
def files(tmp_path):
    mask = np.zeros((1, 90, 120), bool)
    mask[0, 10:60, 10:60] = True
    gt = {
        "images": [{"id": 1, "file_name": "a.png", "height": 90, "width": 120}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50], "segmentation": mask_to_rle(mask[0])}
        ],
    }
    for name, shift in (("results_before", 3), ("results", 1)):
        moved = Instances.from_masks(np.roll(mask, shift, axis=2))
        write_results(tmp_path / f"{name}.json", instances_to_results(moved, 1))
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    Image.new("RGB", (120, 90), (90, 80, 70)).save(tmp_path / "a.png")
    return tmp_path


def test_report(invoke, files):
    sides = files / "results_before.json", f"after={files / 'results.json'}"
    result = invoke("report", *sides, "-a", files / "gt.json", "-i", files, "-o", files / "report.html", "--title", "T")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [f"Report     {files / 'report.html'}  (0.0 MB; 1 that gained, 0 that lost)"]
    page = (files / "report.html").read_text(encoding="utf-8")
    assert "<title>T</title>" in page
    assert "1000 resamples, seed 0" in page
    assert page.count("data:image/webp") == 4


def test_a_small_page_leaves_crops_out(invoke, files):
    sides = files / "results_before.json", files / "results.json"
    result = invoke("report", *sides, "-a", files / "gt.json", "-i", files, "-o", files / "r.html", "--max-size", "0.1")
    assert "1 crops were left out to keep the page below 0.1 MB" in result.stderr


def test_refusals(refused, files):
    common = "-a", files / "gt.json", "-i", files, "-o", files / "r.html"
    assert "two results, before and after; got 1" in refused("report", files / "results.json", *common)
    (files / "a.png").unlink()
    sentence = refused("report", files / "results_before.json", files / "results.json", *common)
    assert f"there is no image {files / 'a.png'}: name the folder" in sentence
    assert not (files / "r.html").exists()
