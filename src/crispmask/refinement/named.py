"""Refinement parameters by name or from a file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from crispmask.errors import ParamsError
from crispmask.params import CRFParams
from crispmask.refinement.learned import FORMAT, LearnedParams
from crispmask.structured import read_toml

_SHIPPED = Path(__file__).parent / "default" / "params.toml"
_RENAMED = {"default": "learned", "crf": "fixed"}


@cache
def default_params() -> LearnedParams:
    """The learned parameters that ship with crispmask: `refine` uses them unless it is told otherwise."""
    return LearnedParams.from_toml(_SHIPPED)


def read_params(source: str | Path) -> CRFParams | LearnedParams:
    """Parameters by name or from a file.

    Args:
        source: ``"learned"``, the ones that ship and that `refine` uses by default; ``"fixed"``, one setting for all
            instances and no network, ``CRFParams()``; ``"paper"``, the published setting; or a TOML file of either
            kind.

    Raises:
        ParamsError: an unknown name, a name of version 0.1, or a file that cannot be used.
    """
    named: dict[str, Any] = {"learned": default_params, "fixed": CRFParams, "paper": CRFParams.paper}
    name = str(source)
    if name in named:
        return named[name]()
    path = Path(source)
    if not path.exists():
        if name in _RENAMED:
            raise ParamsError(
                f"the parameters {name!r} are called {_RENAMED[name]!r} now: give 'learned' (the default), 'fixed', "
                "'paper', or the path of a TOML file"
            )
        if not path.suffix:
            raise ParamsError(f"unknown parameters {name!r}: give 'learned', 'fixed', 'paper', or a TOML file's path")
    try:
        learned = read_toml(path).get("format") == FORMAT
    except ParamsError:
        learned = False  # CRFParams says what is wrong
    return LearnedParams.from_toml(path) if learned else CRFParams.from_toml(path)
