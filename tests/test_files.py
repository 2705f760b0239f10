from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from crispmask.errors import DataError, ParamsError
from crispmask.files import LOCK, locked, refuse_other_settings, replacing, write_bytes, write_text


def test_write_and_overwrite(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "Grüße\n")
    assert path.read_bytes() == "Grüße\n".encode()
    write_bytes(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert list(path.parent.iterdir()) == [path]


def crash_while_writing(path):
    with replacing(path) as partial:
        partial.write_text("half of the ne")
        assert partial.parent == path.parent
        raise RuntimeError("power cut")


def test_a_crash_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="power cut"):
        crash_while_writing(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_crash_leaves_nothing_where_nothing_was(tmp_path):
    with pytest.raises(RuntimeError):
        crash_while_writing(tmp_path / "results.json")
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_the_longest_name_that_the_system_takes(tmp_path):
    path = tmp_path / ("x" * 255)
    write_text(path, "new")
    assert path.read_text() == "new"


def test_two_writers_of_one_file(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


HOLD = """
import os, sys, time
from pathlib import Path
from crispmask.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


def test_a_folder_is_held_until_its_process_ends(tmp_path):
    folder = tmp_path / "new" / "out"
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DataError, match=rf"out is in use by process {other.pid} on .+: wait until it has ended"):
            locked(folder).__enter__()
        other.kill()  # no handler, no cleaning up
    assert (folder / LOCK).exists()
    with locked(folder):
        pass
    assert list(folder.iterdir()) == []


def test_a_folder_is_held_within_a_process_too(tmp_path):
    with locked(tmp_path), pytest.raises(DataError, match=rf"in use by process {os.getpid()} "), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_the_lock_created_goes_with_it(tmp_path):
    with locked(tmp_path / "new" / "out"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "new" / "out"):
        (tmp_path / "new" / "out" / "mine").touch()
    assert [path.name for path in (tmp_path / "new" / "out").iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    with locked(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


def test_a_folder_that_another_process_removes_meanwhile(tmp_path, monkeypatch):
    """`Path.mkdir` then says that it exists."""
    make, refused = os.mkdir, []

    def mkdir(path, *mode):
        if not refused:
            refused.append(path)
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        make(path, *mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with locked(tmp_path / "out"):
        assert (tmp_path / "out" / LOCK).exists()
    assert refused == [tmp_path / "out"]


@pytest.mark.parametrize("below", ["", "out"])
@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_what_is_no_folder_cannot_be_held(tmp_path, kind, below):
    (tmp_path / "it").touch() if kind == "file" else (tmp_path / "it").symlink_to("nothing")
    with pytest.raises(OSError, match="it"), locked(tmp_path / "it" / below):
        pass


def test_where_no_folder_can_be_made(tmp_path, monkeypatch):
    """Some file systems say of every new folder that its place is missing: /proc, for one."""

    def mkdir(path, *mode):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(FileNotFoundError, match="No such file"), locked(tmp_path / "out"):
        pass


def test_many_at_once_are_one_after_the_other(tmp_path):
    """Holders that come and go, and remove the file each time, are never two at once."""
    holding, most, times = [], [], []

    def work(k: int) -> None:
        for _ in range(200):
            try:
                with locked(tmp_path / "out"):
                    holding.append(k)
                    most.append(len(holding))
                    holding.remove(k)
                    times.append(k)
            except DataError:
                pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert max(most) == 1
    assert len(times) > 4


@pytest.mark.parametrize(
    ("new", "what"),
    [
        ({"a": 1, "b": [3, 4], "c": "y"}, "another c"),
        ({"a": 2, "b": [3, 4], "c": "x"}, "a was 1, is 2"),
        ({"a": 2, "b": [3, 4]}, "a was 1, is 2; 1 more setting differs"),
    ],
)
def test_other_settings(new, what):
    old = {"a": 1, "b": [3, 4], "c": "x"}
    with pytest.raises(ParamsError, match=rf"^OUT holds an unfinished run with other settings \({what}\): repeat"):
        refuse_other_settings("OUT", old, new, {"c": "another c"})
    refuse_other_settings("OUT", old, {"c": "x", "b": (3, 4), "a": 1})
