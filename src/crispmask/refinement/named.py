"""Refinement parameters by name or from a file."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from crispmask.errors import ParamsError
from crispmask.params import CRFParams
from crispmask.refinement.learned import FORMAT, LearnedParams

_SHIPPED = Path(__file__).parent / "default" / "params.toml"


@cache
def default_params() -> LearnedParams:
    """The learnt parameters that ship with crispmask: `refine` uses them unless it is told otherwise."""
    return LearnedParams.from_toml(_SHIPPED)


def read_params(source: str | Path) -> CRFParams | LearnedParams:
    """Parameters by name or from a file.

    Args:
        source: ``"default"``, the learnt ones that ship; ``"crf"``, one adaptive setting for all instances and no
            network, ``CRFParams()``; ``"paper"``, the published setting; or a TOML file of either kind.

    Raises:
        ParamsError: an unknown name, or a file that cannot be used.
    """
    named: dict[str, Any] = {"default": default_params, "crf": CRFParams, "paper": CRFParams.paper}
    if str(source) in named:
        return named[str(source)]()
    path = Path(source)
    if not path.suffix and not path.exists():
        raise ParamsError(
            f"unknown parameters {str(source)!r}: give 'default', 'crf', 'paper', or the path of a TOML file"
        )
    try:
        learnt = tomllib.loads(path.read_text(encoding="utf-8")).get("format") == FORMAT
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        learnt = False  # CRFParams says what is wrong
    return LearnedParams.from_toml(path) if learnt else CRFParams.from_toml(path)
