"""A disk that is full or read-only, and a clock that is set back: a sentence, and no byte is lost."""

from __future__ import annotations

import errno
import itertools
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crispmask.coco import instances_to_results, write_results
from crispmask.instances import Instances
from crispmask.pipeline.journal import Journal

QUICK = ("--params", "fixed", "--iterations", 1, "--threads", 1)


@pytest.fixture
def commands(tmp_path, detector) -> dict[str, tuple]:
    """A command by its verb; what it writes comes last."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    records = []
    for k in range(1, 5):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "images" / f"{k}.png")
        mask = np.zeros((40, 50), bool)
        mask[10:30, 12 : 30 + k] = True
        records += instances_to_results(Instances.from_masks(mask), k)
    write_results(tmp_path / "found.json", records)
    return {
        "segment": ("segment", tmp_path / "images", *QUICK, "-o"),
        "refine": ("refine", tmp_path / "found.json", "-i", tmp_path / "images", *QUICK, "-o"),
    }


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(path.rglob("*.*"))
    return {file.name.replace(path.name, "out"): file.read_bytes() for file in files if "provenance" not in file.name}


@pytest.mark.parametrize("verb", ["segment", "refine"])
@pytest.mark.parametrize("place", ["in the journal", "in the results"])
def test_a_disk_that_is_full(invoke, refused, commands, tmp_path, monkeypatch, verb, place):
    assert invoke(*commands[verb], tmp_path / "whole").exit_code == 0
    calls = itertools.count()
    what = (Journal, "_write") if place == "in the journal" else (Path, "replace")
    whole = getattr(*what)

    def full(*args):
        if next(calls) >= (3 if place == "in the journal" else 0) and not str(args[0]).endswith("pictures"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(*what, full)
        words = "No space left on device: make room, then repeat the command; it goes on where it stopped"
        assert words in refused(*commands[verb], tmp_path / "out")
    assert not list(tmp_path.rglob("*.part"))
    result = invoke(*commands[verb], tmp_path / "out")
    assert result.exit_code == 0, result.output
    if place == "in the journal":
        assert "Continuing an interrupted run" in result.stderr
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("verb", ["segment", "refine"])
def test_a_disk_that_is_read_only(refused, commands, tmp_path, monkeypatch, verb):
    def refuse(path: Path, *args, **options) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    message = refused(*commands[verb], tmp_path / "out")
    assert f"{tmp_path / 'out'}" in message
    assert "Read-only file system: choose another folder for what is written" in message


@pytest.mark.parametrize("verb", ["segment", "refine"])
def test_a_clock_that_is_set_back(invoke, commands, tmp_path, monkeypatch, verb):
    assert invoke(*commands[verb], tmp_path / "whole").exit_code == 0
    now = itertools.count(time.time(), -3600)
    monkeypatch.setattr(time, "time", lambda: next(now))
    result = invoke(*commands[verb], tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "-" not in result.stdout.splitlines()[0].split(",")[-1]  # no negative seconds
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_study_on_a_disk_that_is_full(invoke, refused, discs, tmp_path, monkeypatch, when):
    """It was called damaged, or ended in a traceback."""
    from crispmask.tuning.study import Study

    command = ("tune", "-a", discs.annotations, "-r", discs.results, "-i", discs.images, "--objective", "iou")
    command += ("--folds", "2", "--grid", "iterations=1,2", "--threads", "1", "-o")
    connect, add = Study._connect, Study.add

    def small(study: Study) -> sqlite3.Connection:
        connection = connect(study)
        connection.execute("PRAGMA max_page_count = 3")
        return connection

    def add_read_only(study: Study, *args) -> None:
        with study._storage.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only = ON")
        add(study, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Study, *(("_connect", small) if when == "at once" else ("add", add_read_only)))
        message = refused(*command, tmp_path / "out")
    reason = "database or disk is full" if when == "at once" else "attempt to write a readonly database"
    assert f"cannot write {tmp_path / 'out' / 'study.db'}: {reason}: make room" in message
    for out in ("out", "whole"):
        result = invoke(*command, tmp_path / out)
        assert result.exit_code == 0, result.output
    for name in ("summary.json", "scores.csv", "best.toml"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
