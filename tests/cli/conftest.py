"""The command line with a detector that needs no model, in this process and in one of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from crispmask.cli import app
from crispmask.instances import Instances


class BoxDetector:
    """Finds a person of score 0.8 in the middle half of every photo."""

    name, checksum, categories = "box", "0" * 64, {1: "person"}

    def __call__(self, image: np.ndarray) -> Instances:
        height, width = image.shape[:2]
        mask = np.zeros((1, height, width), bool)
        mask[0, height // 4 : -height // 4, width // 4 : -width // 4] = True
        return Instances.from_masks(mask, scores=[0.8])


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> BoxDetector:
    """What the verbs get for every name of a detector."""
    found = BoxDetector()
    monkeypatch.setattr("crispmask.detectors.load_detector", lambda name=None, **options: found)
    return found


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command line; the result has `exit_code`, `stdout` and `stderr`."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception  # what a user would see as a traceback
        return result

    return run


@pytest.fixture
def refused(invoke) -> Callable[..., str]:
    """Run a command line that must end with exit code 1 and one sentence; gives the sentence."""

    def run(*arguments: str | Path) -> str:
        result = invoke(*arguments)
        assert result.exit_code == 1, result.output
        assert "Traceback" not in result.output
        lines = result.stderr.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("Error: ")
        return lines[0].removeprefix("Error: ")

    return run
