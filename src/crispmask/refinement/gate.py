"""The gate: which masks refinement had better leave alone, or only move a little."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crispmask.errors import ParamsError
from crispmask.params import check_limits
from crispmask.refinement.features import FEATURES
from crispmask.refinement.rules import Rules

# Lowest and highest value of each number.
_LIMITS = {"margin": (-1, 1), "risk_cost": (0, 10), "near_margin": (-1, 1), "near_risk_cost": (0, 10)}

OUTPUTS = 4
"""Numbers that are foreseen of a mask: gain and risk of refinement, then of refinement within reach."""

NEVER = 1.0
"""A margin that no gain exceeds."""


@dataclass(frozen=True)
class Verdict:
    """What a gate says of a mask.

    Attributes:
        refined: whether it is refined.
        near: whether only within reach of its outline.
        gain, risk: what is expected of that; of refinement without bounds where it is left alone.
        reason: what decided.
    """

    refined: bool
    near: bool
    gain: float
    risk: float
    reason: str


@dataclass(frozen=True, eq=False)
class Gate:
    """What is expected of refinement, and how much is asked for.

    Attributes:
        rules: expected gain and risk of refinement, and of refinement within reach (`reach`), four outputs, from the
            numbers of `FEATURES`.
        margin: a mask is refined where the expected gain, less what the risk costs, is above this.
        risk_cost: what the certainty of a loss costs, in gain.
        near_margin, near_risk_cost: the same for refinement within reach, of masks that are not refined without bounds.

    Raises:
        ParamsError: rules of other features or outputs, or a number outside its range.
    """

    rules: Rules = field(repr=False)
    margin: float = 0.0
    risk_cost: float = 0.0
    near_margin: float = NEVER
    near_risk_cost: float = 0.0

    def __post_init__(self) -> None:
        if self.rules.outputs != OUTPUTS:
            raise ParamsError(f"a gate must tell gains and risks, {OUTPUTS} numbers, not {self.rules.outputs}")
        if self.rules.features != FEATURES:
            raise ParamsError("a gate of other features")
        check_limits(self, _LIMITS)

    @classmethod
    def constant(
        cls, gain: float, risk: float, *, near_gain: float = 0.0, near_risk: float = 0.0, **limits: float
    ) -> Gate:
        """A gate that expects the same of every mask."""
        return cls(Rules.constant(FEATURES, (gain, risk, near_gain, near_risk)), **limits)

    def verdict(self, foreseen: Sequence[float]) -> Verdict:
        """What is done with a mask of which this is foreseen, the outputs of the rules."""
        gain, risk, near_gain, near_risk = foreseen
        if gain - self.risk_cost * risk > self.margin:
            return Verdict(True, False, gain, risk, "gain expected")
        if near_gain - self.near_risk_cost * near_risk > self.near_margin:
            return Verdict(True, True, near_gain, near_risk, "gain expected near the outline")
        return Verdict(False, False, gain, risk, "risk too high" if gain > self.margin else "no gain expected")

    def to_toml(self, table: str) -> str:
        """A TOML table of that name, and one of its rules."""
        limits = [f"{name} = {json.dumps(getattr(self, name))}" for name in _LIMITS]
        return "\n".join([f"[{table}]", *limits, "", self.rules.to_toml(f"{table}.rules")])

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Gate:
        """From the table that `to_toml` wrote; what `Rules.from_dict` raises, or ParamsError, where it is not sound."""
        values = dict(values)
        return cls(Rules.from_dict(values.pop("rules")), **values)
