"""Every parameter of the refinement, with its unit and default, in one place.

The command line, the Python API and the parameter files all take them from `CRFParams`.
"""

# ruff: noqa: RUF009 - _number and _choice are dataclasses.field with our metadata

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from crispmask.arguments import number
from crispmask.errors import ParamsError
from crispmask.structured import read_toml

DEFAULT_SCORE = 0.7
"""Detections below this score are dropped unless the user says otherwise, or the detector has its own score: customary
for pictures of Mask R-CNN's finds."""

Scale = Literal["pixel", "instance"]
Colour = Literal["rgb", "lab"]
Normalization = Literal["none", "before", "after", "symmetric"]


def _number(default: float, help: str, low: float, high: float, above: bool = False) -> Any:
    """A number from `low` to `high`, both included; with `above`, `low` itself is outside."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "above": above})


def _choice(default: Any, help: str, values: tuple[Any, ...]) -> Any:
    return field(default=default, metadata={"help": help, "values": values})


# The limits keep every intermediate result finite in float32 and every run finite in time. Within them, nothing is
# gained near their ends: a bandwidth below the lowest one lets no pixel hear of its neighbours, one above the highest
# is wider than any image, and weights at the highest outweigh any unary, whose log-odds are at most 14.
@dataclass(frozen=True)
class CRFParams:
    """Parameters of mask refinement, with the symbols of P. Krähenbühl and V. Koltun, NIPS 2011.

    ``CRFParams()`` is one setting for all masks, tuned on training images; ``CRFParams.paper()`` the published one.
    Fields, units and meaning: see the ``help`` of each field, or ``crispmask segment --help``.

    Raises:
        ParamsError: a value of another type, or outside its range.
    """

    theta_alpha: float = _number(
        0.1, "position bandwidth of the bilateral kernel: pixels, or a multiple of sqrt(box area)", 1e-3, 1e5
    )
    theta_alpha_scale: Scale = _choice(
        "instance", "unit of theta_alpha: 'pixel', or 'instance' for sqrt(box area)", get_args(Scale)
    )
    # Colours differ by at most 442 grey levels, or 374 CIELAB units.
    theta_beta: float = _number(5.0, "colour bandwidth: grey levels of 0..255 for rgb, CIELAB units for lab", 1e-3, 1e5)
    colour: Colour = _choice("lab", "colour space of the bilateral kernel: 'rgb' or 'lab'", get_args(Colour))
    bilateral_weight: float = _number(2.5, "weight w1 of the bilateral kernel", 0, 1e4)
    # The filter takes 8 theta_gamma operations per pixel; and at a tenth of a pixel neighbours weigh exp(-50).
    theta_gamma: float = _number(1.0, "bandwidth of the smoothness kernel, pixels", 1e-3, 1000)
    smoothness_weight: float = _number(0.7, "weight w2 of the smoothness kernel", 0, 1e4)
    iterations: int = _number(10, "mean-field updates", 0, 1000)
    normalization: Normalization = _choice(
        "symmetric", "how kernels are normalised: 'none', 'before', 'after' or 'symmetric'", get_args(Normalization)
    )
    self_term: bool = _choice(True, "whether a pixel's message to itself is kept", (False, True))
    smoothing: float = _number(
        0.03, "Gaussian that softens a binary mask: sigma as a multiple of sqrt(mask area)", 0, 1
    )
    smoothing_soft: float = _number(0.0, "the same for masks that come with probabilities", 0, 1)
    confidence: float = _number(
        0.97,
        "probabilities are clipped to [1 - confidence, confidence] before the unary's logarithm",
        0.5,  # where every pixel would be undecided
        0.999999,  # nearer to 1, float32 has no logarithm of what is left
        above=True,
    )
    # Time and memory grow with the window's area: at 2 it is 25 times that of the box.
    context: float = _number(0.15, "margin around the box that is refined: multiple of its sides", 0, 2)
    context_min: int = _number(8, "the least margin, pixels", 0, 1000)
    clean: float = _number(
        0.002, "parts and holes below this share of the mask's area are removed; 0 removes none", 0, 1
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, _checked(item, getattr(self, item.name)))

    @property
    def limit(self) -> float:
        """The log-odds of `confidence`: the highest that the unary has, and with a minus the lowest."""
        return math.log(self.confidence / (1 - self.confidence))

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
            clean=0.0,
        )

    @classmethod
    def from_toml(cls, path: str | Path) -> CRFParams:
        """Read a TOML file of fields; those it leaves out keep their defaults.

        Raises:
            ParamsError: a missing or malformed file, an unknown name (with the nearest known one) or a bad value.
        """
        return cls.from_dict(read_toml(path), source=str(path))

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "parameters") -> CRFParams:
        """From a mapping of field names to values; those it leaves out keep their defaults.

        Raises:
            ParamsError: an unknown name (with the nearest known one) or a bad value; the message starts with `source`.
        """
        known = [item.name for item in fields(cls)]
        if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
            raise ParamsError(f"{source}: must be names and values, got {type(values).__name__}")
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
            # Strings, numbers and booleans are written alike in JSON and TOML.
            lines.append(f"# {item.metadata['help']}\n{item.name} = {json.dumps(value)}\n")
        text = "\n".join(lines)
        if path is not None:
            from crispmask.files import write_text

            write_text(Path(path), text)
        return text

    def as_dict(self) -> dict[str, Any]:
        """Field names and their values, as a dict."""
        return asdict(self)


def _checked(item: Any, value: Any) -> Any:
    """The value in its field's type, or ParamsError."""
    name, limits = item.name, item.metadata
    if "values" in limits:
        values = limits["values"]
        for known in values:
            if isinstance(value, type(known)) and value == known:  # 1 equals True, but is no bool
                return known
        words = "true or false" if values == (False, True) else f"one of {', '.join(values)}"
        raise ParamsError(f"{name} must be {words}, got {value!r}")
    found = check_number(name, value, limits["low"], limits["high"], whole=isinstance(item.default, int))
    if limits["above"] and found == limits["low"]:
        raise ParamsError(f"{name} must be greater than {limits['low']:g}, got {value!r}")
    return found


def check_number(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> Any:
    """`arguments.number` of a parameter.

    Raises:
        ParamsError: as there.
    """
    return number(value, name, low, high, whole=whole, error=ParamsError)


def check_limits(config: Any, limits: Mapping[str, tuple[float, float]]) -> None:
    """Check numbers of a dataclass against their lowest and highest value, both included.

    A field whose default is an int takes whole numbers only.

    Raises:
        ParamsError: as `check_number`.
    """
    whole = {item.name for item in fields(config) if isinstance(item.default, int)}
    for name, (low, high) in limits.items():
        check_number(name, getattr(config, name), low, high, whole=name in whole)


def _hint(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
