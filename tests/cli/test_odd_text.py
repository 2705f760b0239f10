"""Text that cannot be written as UTF-8: halves of surrogate pairs in names of categories and files."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from crispmask.coco import instances_to_results, mask_to_rle, write_results
from crispmask.instances import Instances

ODD = "cat \ud83d"
BYTES = "caf\udce9.png"
"""A file name in Latin-1, as Linux hands it out."""


@pytest.fixture
def files(tmp_path):
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 10:30, 10:40] = True
    name = BYTES if sys.platform == "linux" else "café.png"
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": mask_to_rle(mask[0])}
    gt = {
        "images": [{"id": 1, "file_name": name, "height": 40, "width": 60}],
        "categories": [{"id": 1, "name": ODD, "supercategory": "\ud800"}],
        "annotations": [{**annotation, "bbox": [10, 10, 30, 20]}],
    }
    for side, shift in (("before", 3), ("after", 1)):
        moved = Instances.from_masks(np.roll(mask, shift, axis=2))
        write_results(tmp_path / f"{side}.json", instances_to_results(moved, 1))
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (60, 40), (90, 80, 70)).save(tmp_path / "photos" / name)
    return tmp_path


def test_report_and_evaluate(invoke, files):
    sides = files / "before.json", f"after={files / 'after.json'}"
    result = invoke("report", *sides, "-a", files / "gt.json", "-i", files / "photos", "-o", files / "r.html")
    assert result.exit_code == 0, result.output
    assert "cat \ufffd" in (files / "r.html").read_text(encoding="utf-8")
    result = invoke("evaluate", *sides, "-a", files / "gt.json", "--per-class")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("to", ["coco", "results", "yolo", "labelme", "png"])
def test_convert(invoke, files, to):
    out = files / ("out.json" if to in ("coco", "results") else "out")
    result = invoke("convert", files / "gt.json", out, "--to", to)
    assert result.exit_code == 0, result.output
    back = ["-a", files / "gt.json"] if to == "results" else []
    back += ["-i", files / "photos"] if to == "yolo" else []
    result = invoke("convert", out, files / "back.json", *back)
    assert result.exit_code == 0, result.output
    content = json.loads((files / "back.json").read_text(encoding="utf-8"))
    assert [category["name"] for category in content["categories"]] == ["cat \ufffd"]


def test_file_names_that_no_file_can_have(refused, files):
    gt = json.loads((files / "gt.json").read_text())
    gt["images"][0]["file_name"] = "\ud800.png"
    (files / "gt.json").write_text(json.dumps(gt))
    sides = files / "before.json", f"after={files / 'after.json'}"
    sentence = refused("report", *sides, "-a", files / "gt.json", "-i", files / "photos", "-o", files / "r.html")
    assert "there is no image" in sentence


@pytest.mark.skipif(sys.platform != "linux", reason="this system has no such file names")
def test_segment_with_names_of_bytes(invoke, files):
    assert os.fsencode(BYTES) == b"caf\xe9.png"
    result = invoke("segment", files / "photos", "-o", files / "out", "--detector", "embedded")
    assert result.exit_code == 0, result.output
    content = json.loads((files / "out" / "images.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in content["images"]] == [BYTES]
