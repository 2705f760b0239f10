"""Figures of numbers, all in one style: heat maps, curves with bands, and points. Written as PNG (extra ``tune`` or
``torch``).

Colours are those of M. Okabe and K. Ito, and cividis for heat maps: both can be told apart by colour-blind readers.
Lines differ in their markers too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crispmask.errors import MissingExtraError
from crispmask.files import replacing

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vPX"
_STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": None,  # colours are given line by line
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "font.size": 10,
    "grid.color": "#dddddd",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "savefig.dpi": 110,
}
_PANEL = (5.2, 3.9)  # inches
_MARKED = 32  # points of a line beyond which markers hide it
_INSIDE = 4  # entries of a legend beyond which it hides lines
_NO_DATE = {"Software": None}  # the same figure is the same file


@dataclass(frozen=True)
class Axis:
    """What an axis shows: its label with the unit, and whether it is logarithmic."""

    label: str
    log: bool = False


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a panel; `band` is (low, high), drawn around it. A thin one has the colour of the line before it."""

    x: ArrayLike
    y: ArrayLike
    label: str = ""
    band: tuple[ArrayLike, ArrayLike] | None = None
    thin: bool = False


@dataclass(frozen=True, eq=False)
class Panel:
    """One diagram: lines or, with `points`, only their markers.

    `levels` are dashed horizontals by their label, `at` is a vertical at the x that its label names, `star` marks a
    point.
    """

    x: Axis
    y: Axis
    lines: Sequence[Line]
    title: str = ""
    levels: Mapping[str, float] | None = None
    points: bool = False
    at: tuple[str, float] | None = None
    star: tuple[float, float] | None = None


def check_matplotlib() -> None:
    """Raise MissingExtraError unless matplotlib is installed: better before long work than after it."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("matplotlib", "tune") from None


def draw_panels(path: str | Path, panels: Sequence[Panel], columns: int = 2) -> None:
    """Write diagrams of curves side by side.

    Args:
        path: the PNG file, replaced only when complete.
        panels: what to draw, row by row.
        columns: panels in a row.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with _figure(path, columns * _PANEL[0], rows * _PANEL[1]) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            _draw_panel(axes, panel)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()


def draw_heat_map(
    path: str | Path,
    rows: Sequence[Any],
    columns: Sequence[Any],
    values: ArrayLike,
    *,
    row_label: str,
    column_label: str,
    value_label: str,
    title: str = "",
    note: str = "",
    star: tuple[int, int] | None = None,
    counts: Mapping[tuple[int, int], str] | None = None,
) -> None:
    """Write a heat map with the number in every cell.

    Args:
        path: the PNG file, replaced only when complete.
        rows, columns: the values of the two axes, from the bottom up and from left to right.
        values: float (rows, columns); NaN where there is none.
        row_label, column_label, value_label: what they are, with units.
        title: written above.
        note: written below, small.
        star: row and column of a cell to frame.
        counts: small texts below the number of a cell.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    array = np.ma.masked_invalid(np.asarray(values, np.float64))
    width, height = 2.6 + 0.8 * len(columns), 1.8 + 0.58 * len(rows)
    digits = 1 if np.ptp(array.compressed()) >= 2 else 2
    with _figure(path, max(width, 5.6), max(height, 3.6)) as figure:
        axes = figure.subplots()
        axes.grid(False)
        axes.spines[:].set_visible(False)
        image = axes.imshow(array, cmap="cividis", origin="lower", aspect="auto")
        axes.set_xticks(range(len(columns)), [_text(v) for v in columns])
        axes.set_yticks(range(len(rows)), [_text(v) for v in rows])
        axes.set(xlabel=column_label, ylabel=row_label, title=title)
        if note:
            figure.supxlabel(note, fontsize=8.5, color="#444444")
        for (r, c), value in np.ndenumerate(array):
            if not np.ma.is_masked(value):
                dark = image.norm(value) < 0.55
                count = (counts or {}).get((r, c))
                label = f"{value:.{digits}f}" + (f"\n{count}" if count else "")
                axes.text(c, r, label, ha="center", va="center", color="white" if dark else "black", fontsize=9)
        if star is not None:
            from matplotlib.patches import Rectangle

            frame = Rectangle((star[1] - 0.5, star[0] - 0.5), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=3)
            axes.add_patch(frame).set_clip_on(False)
        figure.colorbar(image, ax=axes, label=value_label).outline.set_visible(False)


@contextmanager
def _figure(path: str | Path, width: float, height: float) -> Iterator[Any]:
    """A figure in our style, written when the block ends; pyplot's process-wide state is not touched."""
    check_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({key: value for key, value in _STYLE.items() if value is not None}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with replacing(Path(path)) as partial:
            figure.savefig(partial, format="png", metadata=_NO_DATE)


def _draw_panel(axes: Any, panel: Panel) -> None:
    k = -1
    for line in panel.lines:
        k += not line.thin
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
        if line.thin:
            axes.plot(x, y, color=colour, linewidth=0.9, label=line.label)
            continue
        shown = marker if panel.points or len(x) <= _MARKED else ""
        axes.plot(x, y, color=colour, marker=shown, linestyle="none" if panel.points else "-", label=line.label)
        if line.band is not None:
            axes.fill_between(x, *(np.asarray(side, np.float64) for side in line.band), color=colour, alpha=0.18, lw=0)
    for k, (label, level) in enumerate((panel.levels or {}).items()):
        axes.axhline(level, color="#555555", linestyle=("--", ":", "-.")[k % 3], linewidth=1.3, label=label)
    if panel.at is not None:
        axes.axvline(panel.at[1], color="#555555", linestyle=":", linewidth=1.3, label=panel.at[0])
    if panel.star is not None:
        axes.plot(*panel.star, "*", color=COLOURS[5], markeredgecolor="black", markersize=15, zorder=5)
        axes.annotate("best", panel.star, (0, 9), textcoords="offset points", ha="center", fontsize=9)
    axes.set(xlabel=panel.x.label, ylabel=panel.y.label, title=panel.title)
    for axis, scale in (("x", panel.x), ("y", panel.y)):
        if scale.log:
            getattr(axes, f"set_{axis}scale")("log")
    if panel.x.log:
        _plain_ticks(axes, panel)
    entries = len(axes.get_legend_handles_labels()[1])
    if entries > _INSIDE:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    elif entries:
        axes.legend()


def _plain_ticks(axes: Any, panel: Panel) -> None:
    """A logarithmic axis with the measured values on it, where they are few; numbers instead of powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    values = sorted({float(v) for line in panel.lines for v in np.asarray(line.x, np.float64)})
    if len(values) <= 8:
        axes.set_xticks(values)
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    formatter = FuncFormatter(lambda value, _: _text(value))
    axes.xaxis.set_major_formatter(formatter)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
