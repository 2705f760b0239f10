"""Every parameter of the refinement, with its unit and default, in one place.

The command line, the Python API and the parameter files all take them from `CRFParams`.
"""

# ruff: noqa: RUF009 - _param is dataclasses.field with our metadata

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args

from crispmask.errors import ParamsError

DEFAULT_SCORE = 0.7
"""Detections below this score are dropped unless the user says otherwise.

About where the embedded detector's precision and recall balance best on its training photos: F1 is 0.56 on COCO and
0.93 on Penn-Fudan, against 0.50 and 0.88 at the customary 0.5."""

Scale = Literal["pixel", "instance"]
Colour = Literal["rgb", "lab"]
Normalization = Literal["none", "before", "after", "symmetric"]


def _param(
    default: Any, help: str, low: float | None = None, high: float | None = None, above: float | None = None
) -> Any:
    return field(default=default, metadata={"help": help, "low": low, "high": high, "above": above})


@dataclass(frozen=True)
class CRFParams:
    """Parameters of mask refinement; the formulas' symbols are those of the README's paper.

    ``CRFParams()`` is one setting for all masks, tuned on training photos; ``CRFParams.paper()`` the published one.
    Fields, units and meaning: see the ``help`` of each field, or ``crispmask segment --help``.

    Raises:
        ParamsError: a value outside its range.
    """

    theta_alpha: float = _param(
        0.1, "position bandwidth of the bilateral kernel: pixels, or a multiple of sqrt(box area)", above=0
    )
    theta_alpha_scale: Scale = _param("instance", "unit of theta_alpha: 'pixel', or 'instance' for sqrt(box area)")
    theta_beta: float = _param(5.0, "colour bandwidth: grey levels of 0..255 for rgb, CIELAB units for lab", above=0)
    colour: Colour = _param("lab", "colour space of the bilateral kernel: 'rgb' or 'lab'")
    bilateral_weight: float = _param(2.5, "weight w1 of the bilateral kernel", low=0)
    theta_gamma: float = _param(1.0, "bandwidth of the smoothness kernel, pixels", above=0)
    smoothness_weight: float = _param(0.7, "weight w2 of the smoothness kernel", low=0)
    iterations: int = _param(10, "mean-field updates", low=0, high=1000)
    normalization: Normalization = _param(
        "symmetric", "how kernels are normalised: 'none', 'before', 'after' or 'symmetric'"
    )
    self_term: bool = _param(True, "whether a pixel's message to itself is kept")
    smoothing: float = _param(
        0.03, "Gaussian that softens a binary mask: sigma as a multiple of sqrt(mask area)", low=0, high=1
    )
    smoothing_soft: float = _param(0.0, "the same for masks that come with probabilities", low=0, high=1)
    confidence: float = _param(
        0.97,
        "probabilities are clipped to [1 - confidence, confidence] before the unary's logarithm",
        above=0.5,
        high=0.999999,  # nearer to 1, float32 has no logarithm of what is left
    )
    context: float = _param(0.15, "margin around the box that is refined: multiple of its sides", low=0)
    context_min: int = _param(8, "the least margin, pixels", low=0)

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, _checked(item, getattr(self, item.name)))

    @classmethod
    def paper(cls) -> CRFParams:
        """The published setting: fixed bandwidths 60 px and 10 grey levels, theta_gamma 1 px, 10 iterations."""
        return cls(
            theta_alpha=60.0,
            theta_alpha_scale="pixel",
            theta_beta=10.0,
            colour="rgb",
            bilateral_weight=10.0,
            theta_gamma=1.0,
            smoothness_weight=3.0,
            smoothing_soft=0.03,
            iterations=10,
        )

    @classmethod
    def from_toml(cls, path: str | Path) -> CRFParams:
        """Read a TOML file of fields; those it leaves out keep their defaults.

        Raises:
            ParamsError: a missing or malformed file, an unknown name (with the nearest known one) or a bad value.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ParamsError(f"cannot read the parameter file {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ParamsError(f"{path} is not valid TOML: {error}") from None
        return cls.from_dict(values, source=str(path))

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "parameters") -> CRFParams:
        """From a mapping of field names; `source` is named in errors."""
        known = [item.name for item in fields(cls)]
        for name in values:
            if name not in known:
                raise ParamsError(f"{source}: unknown parameter {name!r}{_hint(name, known)}")
        try:
            return cls(**values)
        except ParamsError as error:
            raise ParamsError(f"{source}: {error}") from None

    def to_toml(self, path: str | Path | None = None) -> str:
        """The parameters as TOML text, each with its meaning as a comment; written to `path` if given."""
        lines = []
        for item in fields(self):
            value = getattr(self, item.name)
            # JSON's texts, numbers and booleans are TOML's too.
            lines.append(f"# {item.metadata['help']}\n{item.name} = {json.dumps(value)}\n")
        text = "\n".join(lines)
        if path is not None:
            from crispmask.files import write_text

            write_text(Path(path), text)
        return text

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping of field names to values."""
        return asdict(self)


def _checked(item: Any, value: Any) -> Any:
    """The value in its field's type, or ParamsError."""
    name, limits, default = item.name, item.metadata, item.default
    assert default is not MISSING
    choices = {"theta_alpha_scale": Scale, "colour": Colour, "normalization": Normalization}.get(name)
    if choices is not None:
        if value not in get_args(choices):
            raise ParamsError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")
        return value
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ParamsError(f"{name} must be true or false, got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ParamsError(f"{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ParamsError(f"{name} must be a finite number, got {value!r}")
    if isinstance(default, int) and number != int(number):
        raise ParamsError(f"{name} must be a whole number, got {value!r}")
    low, high, above = limits["low"], limits["high"], limits["above"]
    if low is not None and number < low:
        raise ParamsError(f"{name} must be at least {low}, got {value!r}")
    if above is not None and number <= above:
        raise ParamsError(f"{name} must be greater than {above}, got {value!r}")
    if high is not None and number > high:
        raise ParamsError(f"{name} must be at most {high}, got {value!r}")
    return int(number) if isinstance(default, int) else number


def check_limits(config: object, limits: Mapping[str, tuple[float, float]]) -> None:
    """ParamsError for an attribute outside its lowest and highest value, both included; NaN is outside."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise ParamsError(f"{name} must be from {low} to {high}, got {value!r}")


def _hint(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
