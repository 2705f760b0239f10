from __future__ import annotations

import pytest

from crispmask.errors import DataError
from crispmask.pipeline.ray.storage import Place, is_url


@pytest.fixture(params=["path", "file", "memory"])
def folder(request, tmp_path) -> Place:
    """A folder by its path, by a URL of pyarrow's, and by one of fsspec's."""
    return Place.of({"path": tmp_path, "file": f"file://{tmp_path}", "memory": f"memory://{tmp_path}"}[request.param])


def test_write_list_read_remove(folder):
    assert not folder.exists() or folder.files() == []
    with (folder / "sub" / "a.txt").writing() if folder.is_local else (folder / "a.txt").writing() as partial:
        partial.write_text("first")
    (folder / "b.json").write_json({"b": 2})
    names = [place.url.removeprefix(folder.url + "/") for place in folder.files()]
    assert names == (["b.json", "sub/a.txt"] if folder.is_local else ["a.txt", "b.json"])
    assert (folder / "b.json").read_json() == {"b": 2}
    assert (folder / names[0]).is_file()
    for name in names:
        assert (folder / name).read_bytes()
        (folder / name).remove()
    assert folder.files() == []
    (folder / "gone").remove()


def test_a_failure_leaves_what_was_there(folder):
    place = folder / "a.json"
    place.write_json(1)
    with pytest.raises(TypeError), place.writing() as partial:
        partial.write_text(2)
    assert place.read_json() == 1
    assert len(folder.files()) == 1


def test_a_folder_is_filled_when_complete(folder):
    with folder.filling() as here:
        (here / "a.json").write_text("[1]")
    assert (folder / "a.json").read_json() == [1]


def test_urls_and_paths():
    assert [is_url(source) for source in ("s3://bucket/a", "a/b", "/a")] == [True, False, False]
    assert Place.of("a//b/../c").url.endswith("/a/c")
    with pytest.raises(DataError, match="cannot open nothing://x"):
        Place.of("nothing://x")


def test_broken_json(folder):
    with (folder / "a.json").writing() as partial:
        partial.write_text("{")
    with pytest.raises(DataError, match=r"a\.json is not valid JSON"):
        (folder / "a.json").read_json()
