"""Small charts as SVG that takes its colours from the page's style sheet."""

from __future__ import annotations

import math
from html import escape

import numpy as np
from numpy.typing import NDArray

from crispmask.evaluation.bootstrap import Interval
from crispmask.evaluation.report.markup import MINUS


def histogram(changes: NDArray[np.float64], label: str) -> str:
    """The distribution of changes, in percentage points; those beyond the axis are in the outermost bars.

    Args:
        changes: (n,), fractions.
        label: what is shown, for readers who do not see it.
    """
    points = 100 * changes
    # The shortest axis that holds 97 % of the changes.
    usual = float(np.quantile(np.abs(points), 0.97)) if len(points) else 0.0
    reach = next((r for r in (5, 10, 20, 40) if r >= usual), 100)
    step = reach / 10
    edges = np.linspace(-reach, reach, 21)
    counts, _ = np.histogram(np.clip(points, -reach, np.nextafter(reach, 0)), edges)
    width, height, left, bottom, top = 560, 230, 40, 34, 14
    inner, plot = width - left - 8, height - bottom - top
    bar, peak = inner / len(counts), _round_up(int(counts.max(initial=1)))
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">']
    for tick in (0, peak // 2, peak) if peak > 1 else (0, peak):
        y = top + plot * (1 - tick / peak)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    # Masks that did not change are at the foot of the bar of those that gained a little, in their own colour.
    same = int((changes == 0).sum())
    for k, count in enumerate(counts):
        side, low = ("better" if k >= 10 else "worse"), -reach + k * step
        words = f"{low:+g} to {low + step:+g}"
        if k in (0, len(counts) - 1):
            words = f"above {low:+g}" if k else f"below {low + step:+g}"
        below = same if k == 10 else 0
        for kind, first, last, what in (("same", 0, below, "0"), (side, below, int(count), words)):
            if last > first or kind != "same":
                parts.append(
                    f'<rect class="{kind}" x="{left + k * bar + 1:.1f}" y="{top + plot * (1 - last / peak):.1f}" '
                    f'width="{bar - 2:.1f}" height="{plot * (last - first) / peak:.1f}" rx="1.5">'
                    f"<title>{what} points: {last - first}</title></rect>"
                )
    zero = left + inner / 2
    parts.append(f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="{top - 6}" y2="{top + plot}"/>')
    for share, anchor, sign in ((0, "start", "≤ "), (0.25, "middle", ""), (0.5, "middle", ""), (0.75, "middle", "")):
        parts.append(_tick(left + inner * share, height - bottom + 18, anchor, sign, reach * (2 * share - 1)))
    parts.append(_tick(left + inner, height - bottom + 18, "end", "≥ ", reach))
    return "".join([*parts, "</svg>"])


def _tick(x: float, y: float, anchor: str, sign: str, value: float) -> str:
    words = f"{value:+g}".replace("-", MINUS) if value else "0"
    return f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{sign}{words}</text>'


def whisker(change: float, interval: Interval | None, reach: float, label: str) -> str:
    """A change with its interval on an axis from -reach to +reach (fractions), zero in the middle."""
    width, height = 200, 22
    if math.isnan(change):
        return ""

    def x(value: float) -> float:
        return width / 2 * (1 + min(max(value / reach, -1), 1) * 0.96)

    side = "better" if change > 0 else "worse"
    parts = [f'<svg class="whisker" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">']
    parts.append(f'<line class="zero" x1="{width / 2}" x2="{width / 2}" y1="1" y2="{height - 1}"/>')
    if interval is not None and not math.isnan(interval.low):
        faint = "" if interval.excludes_zero else " faint"
        low, high = x(interval.low), max(x(interval.high), x(interval.low) + 1)
        parts.append(
            f'<rect class="{side}{faint} span" x="{low:.1f}" y="{height / 2 - 3}" width="{high - low:.1f}" '
            f'height="6" rx="3"/>'
        )
    parts.append(f'<circle class="{side}" cx="{x(change):.1f}" cy="{height / 2}" r="4.5"/>')
    return "".join([*parts, "</svg>"])


def _round_up(n: int) -> int:
    """The next larger number for the end of an axis: 1, 2, 4, 6, 8, 10, 20, 40, ..."""
    if n <= 1:
        return 1
    unit = 10 ** int(math.log10(n))
    return next(m * unit for m in (1, 2, 4, 6, 8, 10) if m * unit >= n and m * unit % 2 == 0)
