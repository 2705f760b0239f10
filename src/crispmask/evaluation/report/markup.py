"""Numbers as HTML."""

from __future__ import annotations

import math

from crispmask.evaluation import tables
from crispmask.evaluation.bootstrap import Interval
from crispmask.evaluation.comparison import Value

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"


def percent(value: float) -> str:
    """A fraction in percent with one decimal."""
    return NONE if math.isnan(value) else tables.percent(value)


def points(value: float, digits: int = 1) -> str:
    """A difference in percentage points, with its sign."""
    return NONE if math.isnan(value) else tables.change(value, digits).replace("-", MINUS)


def signed(value: Value) -> str:
    """A change, coloured by its direction, in bold where it is significant."""
    if value.change is None or math.isnan(value.change):
        return ""
    side = "same" if not value.changed else "better" if value.change > 0 else "worse"
    return f'<span class="{side}{" sure" if value.significant else ""}">{points(value.change)}</span>'


def span(interval: Interval | None) -> str:
    """An interval in percentage points."""
    if interval is None or math.isnan(interval.low):
        return ""
    low, high = points(interval.low, 2), points(interval.high, 2)
    return f" <span class=range><span>{low}</span><i> … </i><span>{high}</span></span>"
