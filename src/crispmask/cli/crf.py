"""What the verbs that refine masks have in common: their options, and the parameters that these stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from crispmask.errors import ParamsError
from crispmask.params import CRFParams

PANEL = "CRF parameters (each overrides --params)"
PREPARING = "Compiling the CRF; the first time takes up to a minute"

Params = Annotated[str, typer.Option(metavar="NAME|FILE", help="CRF parameters: 'default', 'paper', or a TOML file.")]
Joint = Annotated[bool, typer.Option("--joint", help="Give every pixel to one object at most.")]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Threads; by default one per processor.", show_default=False)
]
Restart = Annotated[bool, typer.Option("--restart", help="Drop the progress of an interrupted run.")]


def read_params(source: str, overrides: dict[str, Any]) -> CRFParams:
    """The parameters of ``--params`` with single ones replaced."""
    named = {"default": CRFParams, "paper": CRFParams.paper}
    if source not in named and not Path(source).suffix and not Path(source).exists():
        raise ParamsError(f"unknown parameters {source!r}: give 'default', 'paper', or the path of a TOML file")
    params = named[source]() if source in named else CRFParams.from_toml(source)
    return CRFParams.from_dict({**params.as_dict(), **overrides}, source="command line")
