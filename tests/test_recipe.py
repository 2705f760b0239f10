"""The conda recipe says what pyproject.toml says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import crispmask

ROOT = Path(__file__).parents[1]
CONDA = {"torch": "pytorch", "ray[data]": "ray-core"}


def packages(lines: list[str]) -> dict[str, str]:
    """Bounds by name, from lines such as ``numpy >=2.0`` or ``numpy>=2.0``."""
    parts = (re.fullmatch(r"([\w.\[\]-]+?) *([<>=].*)", line) for line in lines)
    return {part[1]: part[2] for part in parts if part}


def test_recipe_has_the_dependencies_and_the_version_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    recipe = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text())
    run = packages(recipe["requirements"]["run"])
    assert run.pop("python") == ">=${{ python_min }}"
    assert f">={recipe['context']['python_min']}" == project["requires-python"]
    assert run == packages(project["dependencies"])
    assert recipe["context"]["version"] == crispmask.__version__
    optional = packages([line for lines in project["optional-dependencies"].values() for line in lines])
    optional = {CONDA.get(name, name): bounds for name, bounds in optional.items()}
    constraints = packages(recipe["requirements"]["run_constraints"])
    assert constraints.items() <= optional.items()
    (entry,) = recipe["build"]["python"]["entry_points"]
    assert dict([entry.split(" = ")]) == project["scripts"]
    assert recipe["about"]["license"] == project["license"]
