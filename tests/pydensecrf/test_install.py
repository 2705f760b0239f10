"""Clients that say `import pydensecrf` run unchanged after `install()`, the original being absent or not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).with_name("client.py")
ABSENT = """
import sys, importlib.abc
class Absent(importlib.abc.MetaPathFinder):  # as on a machine where it was never installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pydensecrf":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""
INSTALL = "import crispmask.pydensecrf\ncrispmask.pydensecrf.install()\n"
RUN = f"import runpy\nrunpy.run_path({str(CLIENT)!r})\n"


def python(code: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    prefix = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    return subprocess.run([sys.executable, "-c", prefix + code], capture_output=True, text=True, check=False)


def scores(done: subprocess.CompletedProcess[str]) -> list[float]:
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


def test_without_the_original() -> None:
    assert "No module named 'pydensecrf'" in python(ABSENT + RUN).stderr
    by_method, by_features, before = scores(python(ABSENT + INSTALL + RUN))
    assert before < 0.85
    assert by_method > 0.99
    assert by_features > 0.99


@pytest.mark.parametrize("imported_before", [False, True])
def test_an_original_is_hidden(tmp_path: Path, imported_before: bool) -> None:
    """Also one that is in use already, and that no client would survive."""
    package = tmp_path / "pydensecrf"
    package.mkdir()
    for name in ("__init__", "densecrf", "utils", "eigen"):
        (package / f"{name}.py").write_text("")
    first = "import pydensecrf.densecrf, pydensecrf.utils, pydensecrf.eigen\n" if imported_before else ""
    assert "cannot import name" in python(first + RUN, tmp_path).stderr
    assert scores(python(first + INSTALL + INSTALL + RUN, tmp_path))[0] > 0.99


def test_opt_in() -> None:
    """Importing the drop-in leaves the name pydensecrf alone."""
    code = "import sys, crispmask.pydensecrf.densecrf\nprint([m for m in sys.modules if m.startswith('pydensecrf')])"
    assert python(code).stdout.strip() == "[]"


@pytest.mark.needs("pydensecrf")
def test_same_client_on_the_original() -> None:
    """The client script is a fair one: the original runs it with the same scores."""
    assert scores(python(RUN)) == scores(python(INSTALL + RUN))


def test_models_pickle_under_install() -> None:
    code = INSTALL + (
        "import pickle, numpy as np, pydensecrf.densecrf as dcrf\n"
        "crf = dcrf.DenseCRF2D(4, 3, 2)\n"
        "crf.addPairwiseGaussian(2, 3)\n"
        "print(np.array(pickle.loads(pickle.dumps(crf)).inference(2)).sum())"
    )
    assert scores(python(code)) == [12.0]
