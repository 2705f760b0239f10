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
    typer.Option(metavar="NAME|FILE", help="Parameters: 'learned', 'fixed' (one setting), 'paper', or a TOML file."),
]
FixedParams = Annotated[
    str, typer.Option("--params", metavar="NAME|FILE", help="CRF parameters: 'fixed', 'paper', or a TOML file.")
]
Gated = Annotated[
    str | None,
    typer.Option(
        "--gate",
        metavar="WHICH",
        help="Masks that the gate may leave alone: 'unscored', those without a score below 1 (the default), 'all', or "
        "'none'.",
        show_default=False,
    ),
]
Joint = Annotated[bool, typer.Option("--joint", help="Give every pixel to one object at most.")]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Threads; by default one per processor.", show_default=False)
]
Restart = Annotated[bool, typer.Option("--restart", help="Drop the progress of an interrupted run.")]


def read_params(source: str, overrides: dict[str, Any], gated: str | None = None) -> CRFParams | LearnedParams:
    """The parameters of ``--params`` with single ones replaced, in learned ones for all instances.

    Raises:
        ParamsError: values that do not fit, or ``--gate`` for parameters without a gate.
    """
    from crispmask.refinement import read_params as read

    params = read(source)
    if gated is not None:
        overrides = {**overrides, "gated": gated}
    if isinstance(params, CRFParams):
        if gated is not None:
            raise ParamsError(f"--gate is for learned parameters; those of {source!r} refine every mask")
        return CRFParams.from_dict({**params.as_dict(), **overrides}, source="command line")
    return params.with_overrides(overrides, source="command line")


def read_fixed_params(source: str, overrides: dict[str, Any]) -> CRFParams:
    """The same for verbs that need one setting for all instances.

    Raises:
        ParamsError: learned parameters, which choose a setting for each instance.
    """
    params = read_params(source, overrides)
    if not isinstance(params, CRFParams):
        raise ParamsError(
            f"{source} holds learned parameters, which choose a setting for each instance; this verb needs one setting "
            "for all: give 'fixed', 'paper', or a TOML file of one setting"
        )
    return params


def left_alone_line(reasons: Mapping[str, int], objects: int) -> str:
    """How many masks stayed as they were: ``31 of 200 masks left alone: 31 no gain expected``."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{n} {reason}" for reason, n in ordered)
    return f"{sum(reasons.values())} of {count(objects, 'mask')} left alone: {named}"
