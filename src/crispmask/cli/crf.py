"""What the verbs that refine masks have in common: their options, and the parameters that these stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crispmask.cli.console import count
from crispmask.errors import ParamsError
from crispmask.params import CRFParams

if TYPE_CHECKING:
    from crispmask.refinement import LearnedParams

PANEL = "CRF parameters (each overrides --params)"

Params = Annotated[
    str,
    typer.Option(metavar="NAME|FILE", help="Parameters: 'default' (learnt), 'crf' or 'paper' (fixed), or a TOML file."),
]
Joint = Annotated[bool, typer.Option("--joint", help="Give every pixel to one object at most.")]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Threads; by default one per processor.", show_default=False)
]
Restart = Annotated[bool, typer.Option("--restart", help="Drop the progress of an interrupted run.")]


def read_params(source: str, overrides: dict[str, Any]) -> CRFParams | LearnedParams:
    """The parameters of ``--params`` with single ones replaced, in learnt ones for all instances."""
    from crispmask.refinement import read_params as read

    params = read(source)
    if isinstance(params, CRFParams):
        return CRFParams.from_dict({**params.as_dict(), **overrides}, source="command line")
    return params.with_overrides(overrides, source="command line")


def read_fixed_params(source: str, overrides: dict[str, Any]) -> CRFParams:
    """The same for verbs that look at one setting: ``default`` is the fixed one then.

    Raises:
        ParamsError: a file of learnt parameters.
    """
    params = read_params("crf" if source == "default" else source, overrides)
    if not isinstance(params, CRFParams):
        raise ParamsError(f"{source} holds learnt parameters, here a single setting is needed: give 'crf' or its file")
    return params


def kept_line(kept: Mapping[str, int], objects: int) -> str:
    """What the gate did: ``31 of 200 masks left alone: 20 already sure, 11 low contrast``."""
    reasons = sorted(kept.items(), key=lambda item: (-item[1], item[0]))
    return f"{sum(kept.values())} of {count(objects, 'mask')} left alone: " + ", ".join(f"{n} {r}" for r, n in reasons)
