from __future__ import annotations

import json

import numpy as np
import pytest

from crispmask.coco import CocoDataset, mask_to_rle


@pytest.fixture
def truth(tmp_path):
    """`gt.json` with one object, which has a hole."""
    mask = np.zeros((20, 30), bool)
    mask[4:15, 5:20] = True
    mask[8:10, 8:12] = False
    annotation = {"id": 1, "image_id": 7, "category_id": 2, "iscrowd": 0, "segmentation": mask_to_rle(mask)}
    image = {"id": 7, "file_name": "a.jpg", "height": 20, "width": 30}
    content = {"images": [image], "annotations": [annotation], "categories": [{"id": 2, "name": "cat"}]}
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(content))
    return path


def test_there_and_back(invoke, truth, tmp_path):
    result = invoke("convert", truth, tmp_path / "l", "--to", "labelme")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"1 object in 1 image: {tmp_path / 'l'}\n", "")
    assert invoke("convert", tmp_path / "l", tmp_path / "back.json").exit_code == 0
    before, after = (
        CocoDataset.from_file(truth).instances(7),
        CocoDataset.from_file(tmp_path / "back.json").instances(1),
    )
    assert (before.masks() == after.masks()).all()
    assert invoke("convert", tmp_path / "l", tmp_path / "ids.json", "-a", truth).exit_code == 0
    assert list(CocoDataset.from_file(tmp_path / "ids.json").images) == [7]


def test_losses_are_told(invoke, truth, tmp_path):
    result = invoke("convert", truth, tmp_path / "y", "--to", "yolo", "--tolerance", 1)
    assert result.exit_code == 0
    assert result.stderr == "Not kept: 1 objects with holes, joined to their outlines by lines of zero width.\n"


def test_polygons(invoke, truth, tmp_path):
    assert invoke("convert", truth, tmp_path / "p.json", "--polygons").exit_code == 0
    (annotation,) = json.loads((tmp_path / "p.json").read_text())["annotations"]
    assert isinstance(annotation["segmentation"], list)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{gt}", "{out}/y"], "add --to FORMAT"),
        (["{gt}", "{out}/y", "--to", "voc"], "unknown format 'voc': there are coco, results, yolo, labelme, cvat, png"),
        (["{gt}", "{gt}"], "is also the input"),
        (["{out}/gone", "{out}/o.json"], "No such file or directory"),
        (["{gt}", "{out}/o.json", "--tolerance", "-1"], "tolerance must be a number of pixels"),
        (["{gt}", "{out}/o.json", "--from", "labelme"], "is not a LabelMe file"),
        (["{gt}", "{out}/o.json", "-a", "gone.json"], "cannot read gone.json"),
    ],
)
def test_bad_options(refused, truth, tmp_path, arguments, reason):
    before = truth.read_bytes()
    assert reason in refused("convert", *(a.format(gt=truth, out=tmp_path) for a in arguments))
    assert truth.read_bytes() == before
    assert list(tmp_path.iterdir()) == [truth]
