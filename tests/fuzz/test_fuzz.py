"""What was found once stays mended; and a short search in every run, a longer one among the slow tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # pytest's importlib mode does not

from tests.fuzz.doors import DOORS
from tests.fuzz.run import case, check, saved, warm

CORPUS = sorted(path for path in Path(__file__).with_name("corpus").iterdir() if path.name.partition("-")[0] in DOORS)


def prepare(door: str) -> None:
    if door == "web":
        pytest.importorskip("fastapi", reason="the extra 'app' is not installed")
    warm(door)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_was_found(path):
    door = path.name.partition("-")[0]
    prepare(door)
    saved(door, path.read_bytes())


@pytest.mark.parametrize("door", DOORS)
def test_some(door):
    prepare(door)
    for number in range(15):
        check(door, *case(door, f"test {door} {number}"))


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_more(door):
    prepare(door)
    for number in range(600):
        check(door, *case(door, f"slow {door} {number}"))
