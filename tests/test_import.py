from __future__ import annotations

import json
import subprocess
import sys

import pytest

import crispmask

HEAVY = (
    *("numba", "torch", "supervision", "cv2", "matplotlib", "onnxruntime", "scipy", "faster_coco_eval", "fastapi"),
    *("pyarrow", "ray", "optuna", "contourpy", "rich", "typer", "av", "fontTools", "skimage", "sklearn", "pandas"),
)


def loaded_by(statement: str) -> set[str]:
    """Which packages that take time to import a fresh interpreter holds after the statement."""
    watched = ("numpy", "PIL", *HEAVY)
    code = f"import json, sys\n{statement}\nprint(json.dumps([m for m in {watched!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_is_cheap():
    assert loaded_by("import crispmask") == set()


def test_the_probe_can_fail():
    assert loaded_by("import scipy") == {"numpy", "scipy"}


@pytest.mark.parametrize(
    "module", ["coco", "crf", "draw", "image", "instances", "integrations", "params", "plots", "refinement"]
)
def test_light_modules_stay_light(module):
    assert not loaded_by(f"import crispmask.{module}") & set(HEAVY)


@pytest.mark.parametrize("name", crispmask.__all__)
def test_public_names_resolve(name):
    assert getattr(crispmask, name) is not None
    assert name in dir(crispmask)


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = crispmask.nothing


@pytest.mark.parametrize("modules_first", [False, True])
def test_no_public_name_is_hidden_by_a_module(modules_first):
    """A module of the same name takes the name's place in the package as soon as anybody imports it."""
    names = sorted(set(crispmask.__all__) - {"__version__"})
    lines = ["import crispmask, importlib, types"]
    if modules_first:
        lines += [f"importlib.import_module(crispmask._HOME[{name!r}])" for name in names]
    for name in names:
        lines += [f"from crispmask import {name}", f"assert not isinstance({name}, types.ModuleType), {name}"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
