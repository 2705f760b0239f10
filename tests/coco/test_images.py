from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from crispmask.coco import CocoDataset
from crispmask.coco.images import ImageFolder
from crispmask.errors import DataError, ImageError


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "photos"
    names = ("000000000139.jpg", "COCO_val2014_000000000285.jpg", "632.png", "5.jpg", "0005.png", "sub/a.jpg", "x1.jpg")
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(path / name)
    (path / "724.json").write_text("{}")
    return path


def named(folder: Path, *file_names: str, width: int = 6) -> ImageFolder:
    images = [{"id": k, "file_name": name, "height": 4, "width": width} for k, name in enumerate(file_names)]
    path = folder.parent / "gt.json"
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    return ImageFolder(folder, CocoDataset.from_file(path))


@pytest.mark.parametrize(
    ("image_id", "name"),
    [(139, "000000000139.jpg"), (285, "COCO_val2014_000000000285.jpg"), (632, "632.png")],
)
def test_coco_s_names(folder, image_id, name):
    photos = ImageFolder(folder, None)
    assert photos.path(image_id) == folder / name
    assert photos.size(image_id) == (4, 6)


@pytest.mark.parametrize(
    ("image_id", "reason"),
    [
        (1, r"no file of image 1 in .*photos \(looked for 000000000001\.jpg, 1\.jpg"),
        (724, "no file of image 724"),
        (-139, "no file of image -139"),
        (5, r"0005\.png and 5\.jpg in .*photos could both be image 5"),
    ],
)
def test_no_photo_of_a_number(folder, image_id, reason):
    with pytest.raises(DataError, match=reason):
        ImageFolder(folder, None).path(image_id)


def test_names_of_a_data_set(folder):
    photos = named(folder, "sub/a.jpg", "./632.png", "sub\\a.jpg")
    assert photos.path(0) == photos.path(2) == folder / "sub" / "a.jpg"
    assert photos.path(1) == folder / "632.png"
    with pytest.raises(DataError, match=r"no image with the id 7 in .*gt\.json"):
        photos.path(7)


@pytest.mark.parametrize(
    "name",
    ["../outside.jpg", "sub/../../outside.jpg", "..\\outside.jpg", "C:\\outside.jpg", "\\\\host\\x.jpg"],
)
def test_names_that_leave_the_folder(folder, name):
    Image.new("RGB", (6, 4)).save(folder.parent / "outside.jpg")
    with pytest.raises(DataError, match="leads out of its folder"):
        named(folder, name).path(0)
    with pytest.raises(DataError, match="leads out of its folder"):
        named(folder, str(folder.parent / "outside.jpg")).path(0)


def test_files_that_are_not_there(folder):
    for name in ("gone.jpg", "sub", "x" * 5000):
        with pytest.raises(DataError, match="there is no image"):
            named(folder, name).path(0)
    with pytest.raises(DataError, match="is not a folder"):
        ImageFolder(folder / "none", None)


def test_another_size(folder):
    with pytest.raises(DataError, match=r"has 6x4 pixels \(width x height\), the annotation file says 9x4"):
        named(folder, "632.png", width=9).size(0)


def test_a_file_that_is_no_image(folder):
    (folder / "7.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match="is not an image"):
        ImageFolder(folder, None).size(7)
