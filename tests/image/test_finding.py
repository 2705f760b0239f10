from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from crispmask.errors import ImageError
from crispmask.image import describe_unread, find_images, search_images


@pytest.fixture
def tree(tmp_path) -> Path:
    for name in (
        "b.JPG",
        "a.png",
        "deep/er/c.webp",
        "deep/photo[1].png",
        "deep/notes.txt",
        ".hidden.png",
        ".git/x.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(tree: Path, sources: list) -> list[str]:
    return [path.relative_to(tree).as_posix() for path in find_images(sources)]


def test_folders_files_and_patterns(tree):
    everything = ["a.png", "b.JPG", "deep/er/c.webp", "deep/photo[1].png"]
    assert names(tree, [tree]) == everything
    assert names(tree, [str(tree)]) == everything
    assert names(tree, [tree / "*.png"]) == ["a.png"]
    assert names(tree, [str(tree / "**" / "*.[pw]*")]) == ["a.png", "deep/er/c.webp", "deep/photo[1].png"]
    assert names(tree, [tree / "deep/photo[1].png"]) == ["deep/photo[1].png"]
    assert names(tree, [tree / "deep/notes.txt"]) == ["deep/notes.txt"]


def test_each_file_once_and_sorted(tree):
    assert names(tree, [tree / "b.JPG", tree, tree / "deep" / ".." / "a.png"])[-1:] == ["deep/photo[1].png"]
    assert len(find_images([tree / "b.JPG", tree, tree / "deep" / ".." / "a.png"])) == 4


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
@pytest.mark.parametrize("pattern", ["", "**", "**/*.[pwJ]*"])
def test_loops_of_links_end(tree, pattern):
    for k in range(3):
        (tree / "deep" / f"loop{k}").symlink_to(tree, target_is_directory=True)
    (tree / "self.png").symlink_to("self.png")
    (tree / "dangling.png").symlink_to("nowhere.png")
    assert names(tree, [tree / pattern]) == ["a.png", "b.JPG", "deep/er/c.webp", "deep/photo[1].png"]


def test_folders_that_may_not_be_entered_are_left_out(tree, monkeypatch):
    scandir = os.scandir

    def barred(path="."):  # a mode would not bar the administrator, as whom containers run tests
        if Path(os.fsdecode(path)).name == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", barred)
    assert names(tree, [tree]) == ["a.png", "b.JPG"]


def test_hidden_files_only_where_they_are_named(tree):
    assert names(tree, [tree / ".git" / "*.png"]) == [".git/x.png"]
    with pytest.raises(ImageError, match="holds no image"):
        find_images([tree / "*" / "x.png"])


@pytest.mark.parametrize("pattern", ["a**b/*.png", "***"])
def test_patterns_that_are_none(tree, pattern):
    with pytest.raises(ImageError):
        find_images([tree / pattern])


def test_relative_patterns(tree, monkeypatch):
    monkeypatch.chdir(tree / "deep")
    assert find_images(["../*.png", "er/*"]) == [Path("../a.png"), Path("er/c.webp")]


def test_one_source_may_be_a_string(tree):
    assert find_images(str(tree / "a.png")) == [tree / "a.png"]


def test_a_missing_file_does_not_stop_the_others(tree):
    assert names(tree, [tree / "a.png", tree / "typo.png"]) == ["a.png", "typo.png"]


@pytest.mark.parametrize("source", ["typo.png", "none/*.png", "*.tiff", "empty", "deep/*.txt"])
def test_nothing_found_is_said(tree, source):
    (tree / "empty").mkdir()
    with pytest.raises(ImageError, match=r"does not exist|holds no image") as caught:
        find_images([tree / source])
    assert source in str(caught.value)
    with pytest.raises(ImageError, match="no image was named"):
        find_images([])


def test_images_that_cannot_be_read_here_are_found_too(tree, without_heif):
    for name in ("x.heic", "deep/y.HEIC", "z.dng"):
        (tree / name).write_bytes(b"x")
    found = search_images([tree])
    assert [path.name for path in found.images] == ["a.png", "b.JPG", "c.webp", "photo[1].png"]
    assert [path.name for path in found.unread] == ["y.HEIC", "x.heic", "z.dng"]
    assert describe_unread(found.unread) == (
        "1 .dng (z.dng): convert them to JPEG, PNG or TIFF; 2 .heic (y.HEIC, x.heic): pip install pillow-heif, and "
        "crispmask reads HEIC"
    )
    with pytest.raises(ImageError, match=r"holds no image that can be read here: 1 \.heic \(x\.heic\): pip install"):
        find_images([tree / "*.heic"])
