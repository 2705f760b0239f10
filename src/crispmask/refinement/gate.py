"""The gate: which masks refinement had better leave alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crispmask.errors import ParamsError
from crispmask.params import check_limits
from crispmask.refinement.features import FEATURES
from crispmask.refinement.rules import Rules


@dataclass(frozen=True, eq=False)
class Gate:
    """What is expected of refinement, and how much is asked for.

    Attributes:
        rules: expected gain and risk of refinement, two outputs, from the numbers of `FEATURES`.
        margin: a mask is left alone where the expected gain is not above this.
        max_risk: a mask is left alone where the risk is above this.

    Raises:
        ParamsError: rules of other features or outputs, or a number outside its range.
    """

    rules: Rules = field(repr=False)
    margin: float = 0.0
    max_risk: float = 1.0

    def __post_init__(self) -> None:
        if self.rules.outputs != 2:
            raise ParamsError(f"a gate must tell gain and risk, two numbers, not {self.rules.outputs}")
        if self.rules.features != FEATURES:
            raise ParamsError("a gate of other features")
        check_limits(self, {"margin": (-1, 1), "max_risk": (0, 1)})

    @classmethod
    def constant(cls, gain: float, risk: float, **limits: float) -> Gate:
        """A gate that expects the same of every mask."""
        return cls(Rules.constant(FEATURES, (gain, risk)), **limits)

    def verdict(self, gain: float, risk: float) -> tuple[bool, str]:
        """Whether a mask of which this is expected is refined, and what decides."""
        if risk > self.max_risk:
            return False, "risk too high"
        if not gain > self.margin:
            return False, "no gain expected"
        return True, "gain expected"

    def to_toml(self, table: str) -> str:
        """A TOML table of that name, and one of its rules."""
        limits = [f"{name} = {json.dumps(getattr(self, name))}" for name in ("margin", "max_risk")]
        return "\n".join([f"[{table}]", *limits, "", self.rules.to_toml(f"{table}.rules")])

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Gate:
        """From the table that `to_toml` wrote; what `Rules.from_dict` raises, or ParamsError, where it is not sound."""
        values = dict(values)
        return cls(Rules.from_dict(values.pop("rules")), **values)
