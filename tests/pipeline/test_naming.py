from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispmask.coco import CocoDataset
from crispmask.errors import DataError
from crispmask.pipeline.naming import match_annotations, picture_names, relative_names


def touch(*paths: Path) -> list[Path]:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return list(paths)


def test_folder_keeps_its_structure(tmp_path):
    files = touch(tmp_path / "in/sub/b.jpg", tmp_path / "in/sub/a.jpg")
    assert list(relative_names([tmp_path / "in"], files)) == ["sub/a.jpg", "sub/b.jpg"]


def test_two_folders_keep_their_names(tmp_path):
    files = touch(tmp_path / "x/a.jpg", tmp_path / "y/a.jpg")
    assert relative_names([tmp_path / "x", tmp_path / "y"], files) == {"x/a.jpg": files[0], "y/a.jpg": files[1]}


def test_single_files_have_their_own_name(tmp_path, monkeypatch):
    files = touch(tmp_path / "x/a.jpg")
    monkeypatch.chdir(tmp_path / "x")
    assert relative_names(["a.jpg"], [Path("a.jpg")]) == {"a.jpg": files[0]}


def test_files_of_several_folders(tmp_path):
    files = touch(tmp_path / "x/a.jpg", tmp_path / "x/deep/a.jpg")
    assert list(relative_names([str(f) for f in files], files)) == ["a.jpg", "deep/a.jpg"]


PARTS = st.sampled_from(["a", "b", "a.png", "B.jpg", "b.jpg", "a.png.jpg", "a.webp"])
NAMES = st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), max_size=12, unique=True)


@given(NAMES)
def test_pictures_never_collide(names):
    # A file cannot be another's folder.
    names = [n for n in names if not any(other.startswith(f"{n}/") for other in names)]
    pictures = picture_names(names)
    assert list(pictures) == names
    assert len({path.casefold() for path in pictures.values()}) == len(names)
    for name, picture in pictures.items():
        assert PurePosixPath(picture).parent == PurePosixPath(name).parent
        assert picture.startswith(str(PurePosixPath(name).with_suffix("")))
        assert picture.endswith(".jpg")
        # A folder of another photo's picture is not this picture.
        assert not any(other.casefold().startswith(f"{picture.casefold()}/") for other in names)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.png"], ["a.jpg"]),
        (["a.jpg", "b/a.jpg"], ["a.jpg", "b/a.jpg"]),
        (["a.png", "a.webp"], ["a.jpg", "a.webp.jpg"]),
        (["a.png", "A.webp"], ["a.jpg", "A.webp.jpg"]),
        (["a.png", "a.webp", "a.png.gif"], ["a.jpg", "a.webp.jpg", "a.png.jpg"]),
        (["a.png", "a.jpg", "a.jpg.jpg/b.png"], ["a.jpg", "a.jpg.jpg.jpg", "a.jpg.jpg/b.jpg"]),
        (["x.png", "x.jpg/b.png"], ["x.png.jpg", "x.jpg/b.jpg"]),
    ],
)
def test_picture_names(names, expected):
    assert list(picture_names(names).values()) == expected


def dataset(path: Path, *file_names: str) -> CocoDataset:
    images = [{"id": 10 + k, "file_name": name, "height": 4, "width": 5} for k, name in enumerate(file_names)]
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    return CocoDataset.from_file(path)


def test_annotations_match_by_the_longest_tail(tmp_path):
    truth = dataset(tmp_path / "gt.json", "a.jpg", "val/a.jpg", "other\\b.jpg")
    photos = {"a.jpg": Path("/data/val/a.jpg"), "t/a.jpg": Path("/data/t/a.jpg"), "b.jpg": Path("/data/other/b.jpg")}
    assert {n: image.id for n, image in match_annotations(photos, truth).items()} == {
        "a.jpg": 11,
        "t/a.jpg": 10,
        "b.jpg": 12,
    }


def test_photo_that_is_not_annotated(tmp_path):
    truth = dataset(tmp_path / "gt.json", "a.jpg")
    with pytest.raises(DataError, match=r"gt\.json has no image 'c\.jpg' \(it names 1 images"):
        match_annotations({"c.jpg": Path("/data/c.jpg")}, truth)


def test_photos_that_are_not_annotated_are_left_out(tmp_path):
    truth = dataset(tmp_path / "gt.json", "a.jpg")
    photos = {"a.jpg": Path("/data/a.jpg"), "c.jpg": Path("/data/c.jpg")}
    assert list(match_annotations(photos, truth)) == ["a.jpg"]
    with pytest.raises(DataError, match=r"has no image 'c\.jpg'"):
        match_annotations(photos, truth, {Path("/data/c.jpg")})


def test_two_photos_of_one_record(tmp_path):
    truth = dataset(tmp_path / "gt.json", "a.jpg")
    with pytest.raises(DataError, match=r"x/a\.jpg and y/a\.jpg are both image 'a\.jpg'"):
        match_annotations({"x/a.jpg": Path("/x/a.jpg"), "y/a.jpg": Path("/y/a.jpg")}, truth)
