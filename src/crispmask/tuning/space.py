"""What is searched: values or ranges of the fields of `CRFParams`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args, get_type_hints

from crispmask.errors import ParamsError
from crispmask.params import CRFParams
from crispmask.refinement.solve import LATTICE_PARAMS
from crispmask.structured import parse_toml

Values = dict[str, Any]
"""Values of the tuned parameters by name: a point of the search."""

_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
_TUNED = ("theta_alpha", "theta_beta")
_TUNED_BY_TPE = (*_TUNED, "bilateral_weight", "smoothness_weight")


@dataclass(frozen=True)
class Choice:
    """A parameter that takes one of some values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """A number between two others, both included; `log` for even steps of its logarithm."""

    low: float
    high: float
    log: bool = False


Space = Mapping[str, Choice | Range]


def read_space(method: str, grid: Sequence[str], ranges: Sequence[str], start: CRFParams) -> Space:
    """The tuned parameters of the options ``--grid`` and ``--range``, or the default ones.

    Raises:
        ParamsError: an option that is not understood, does not fit the method, or names a parameter again.
    """
    if method == "grid" and ranges:
        raise ParamsError("--range is for --method tpe: give a grid its values with --grid NAME=VALUE,VALUE,...")
    parsed: list[tuple[str, Any]] = [*map(parse_choice, grid), *map(parse_range, ranges)]
    space: Space = dict(parsed)
    if len(space) < len(parsed):
        names = [name for name, _ in parsed]
        twice = next(name for name in names if names.count(name) > 1)
        raise ParamsError(f"{twice} is given twice: name each parameter once")
    space = space or (default_grid(start) if method == "grid" else default_ranges(start))
    check_space(space)
    return space


def parse_choice(text: str) -> tuple[str, Choice]:
    """``theta_beta=3,5,10`` as name and values, each value once.

    Raises:
        ParamsError: no name, no value, an unknown name (with the nearest known one), or a value out of range.
    """
    name, parts = _split(text, "--grid NAME=VALUE,VALUE,...", ",")
    values = [_value(part.strip()) for part in parts if part.strip()]
    if not values:
        raise ParamsError(f"--grid {text!r} has no values: write --grid {name}=VALUE,VALUE,...")
    checked = [getattr(CRFParams.from_dict({name: value}, source="--grid"), name) for value in values]
    return name, Choice(tuple(dict.fromkeys(checked)))


def parse_range(text: str) -> tuple[str, Range]:
    """``theta_alpha=0.02:0.5:log`` as name and range.

    Raises:
        ParamsError: as `parse_choice`, a parameter that is not a number, or limits in the wrong order.
    """
    name, parts = _split(text, "--range NAME=LOW:HIGH or NAME=LOW:HIGH:log", ":")
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2].strip() != "log"):
        raise ParamsError(f"--range {text!r} must be NAME=LOW:HIGH or NAME=LOW:HIGH:log")
    limits = [_value(part.strip()) for part in parts[:2]]
    low, high = (getattr(CRFParams.from_dict({name: limit}, source="--range"), name) for limit in limits)
    if isinstance(low, str | bool):
        raise ParamsError(f"--range: {name} is not a number: give its values with --grid {name}=VALUE,VALUE")
    log = len(parts) == 3
    if not low < high:
        raise ParamsError(f"--range: {name} must go from a smaller to a larger number, got {low} to {high}")
    if log and low <= 0:
        raise ParamsError(f"--range: {name} must start above 0 to be logarithmic, got {low}")
    return name, Range(low, high, log)


def default_grid(start: CRFParams) -> dict[str, Choice]:
    """The paper's grid, theta_alpha by theta_beta, from a quarter of the start's values to four times of them."""
    return {name: Choice(tuple(factor * getattr(start, name) for factor in _FACTORS)) for name in _TUNED}


def default_ranges(start: CRFParams) -> dict[str, Range]:
    """Bandwidths and weights from a quarter of the start's values to four times of them."""
    values = {name: getattr(start, name) for name in _TUNED_BY_TPE}
    return {name: Range(value / 4, value * 4, True) for name, value in values.items() if value > 0}


def check_space(space: Space) -> None:
    """Raise ParamsError for parameters that cannot be tuned on a results file."""
    if "smoothing_soft" in space:
        raise ParamsError(
            "smoothing_soft has no effect here, since results files hold masks without probabilities: tune smoothing"
        )


def grid_points(space: Mapping[str, Choice]) -> list[Values]:
    """Every combination; those that share a lattice follow one another."""
    names = sorted(space, key=lambda name: (name not in LATTICE_PARAMS, list(space).index(name)))
    combinations = itertools.product(*(space[name].values for name in names))
    return [dict(zip(names, values, strict=True)) for values in combinations]


def point_of(params: CRFParams, space: Space) -> Values | None:
    """The parameters as a point of the space; None where they are not in it."""
    values = {name: getattr(params, name) for name in space}
    return values if all(_holds(space[name], value) for name, value in values.items()) else None


def legal_choices(name: str) -> tuple[Any, ...]:
    """All values of a parameter that is not a number; empty for a number."""
    kind = get_type_hints(CRFParams)[name]
    return (False, True) if kind is bool else get_args(kind)


def unit(name: str, params: CRFParams, space: Sequence[str] | Space) -> str:
    """The parameter with its symbol and unit, for an axis. The unit may depend on a tuned parameter."""
    alpha = {"pixel": "px", "instance": "multiple of √box area"}
    beta = {"rgb": "grey levels", "lab": "CIELAB units"}
    known = {
        "theta_alpha": ("θα", alpha[params.theta_alpha_scale]),
        "theta_beta": ("θβ", beta[params.colour]),
        "theta_gamma": ("θγ", "px"),
        "smoothing": ("smoothing", "multiple of √mask area"),
        "context": ("context", "multiple of the box's sides"),
        "context_min": ("context_min", "px"),
    }
    if "theta_alpha_scale" in space:
        known["theta_alpha"] = ("θα", " or ".join(alpha.values()))
    if "colour" in space:
        known["theta_beta"] = ("θβ", " or ".join(beta.values()))
    symbol, of = known.get(name, (name.replace("_", " "), ""))
    return f"{symbol} ({of})" if of else symbol


def _holds(part: Choice | Range, value: Any) -> bool:
    return value in part.values if isinstance(part, Choice) else part.low <= value <= part.high


def _split(text: str, usage: str, separator: str) -> tuple[str, list[str]]:
    name, equals, rest = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name:
        raise ParamsError(f"{text!r} is not understood: write {usage}")
    if name not in {item.name for item in fields(CRFParams)}:
        CRFParams.from_dict({name: 0}, source=usage.split()[0])  # raises, with the nearest name
    return name, rest.split(separator)


def _value(text: str) -> Any:
    """A number, true, false, or else the text itself."""
    try:
        return parse_toml(f"value = {text}", "the value")["value"]
    except ParamsError:
        return text
