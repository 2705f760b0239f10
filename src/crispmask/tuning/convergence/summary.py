"""Tables and figures of many traces."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.files import write_text
from crispmask.plots import Axis, Line, Panel, draw_panels
from crispmask.tuning.convergence.trace import NEARLY, Trace

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_FEW = 7  # curves; more are hard to distinguish


@dataclass(frozen=True, eq=False)
class Course:
    """A trace without its masks, and the object that it is of.

    Attributes:
        name: of the image.
        instance: number of the detection in it.
        pixels: of the last mask.
        kl, relative_kl, unsettled: float64 (T + 1,), as those of `Trace`.
        settled, nearly_settled: as those of `Trace`.
    """

    name: str
    instance: int
    pixels: int
    kl: NDArray[np.float64]
    relative_kl: NDArray[np.float64]
    unsettled: NDArray[np.float64]
    settled: int | None
    nearly_settled: int

    @classmethod
    def of(cls, name: str, instance: int, trace: Trace) -> Course:
        """Of a trace."""
        pixels = int(trace.masks[-1].sum())
        return cls(
            name,
            instance,
            pixels,
            trace.kl,
            trace.relative_kl,
            trace.unsettled,
            trace.settled,
            trace.nearly_settled,
        )


def settling(courses: Sequence[Course], iterations: int) -> dict[str, dict[str, float]]:
    """Quantiles over the objects of the iterations until a mask is settled, and nearly settled; infinite beyond T."""
    numbers = {
        "settled": [math.inf if c.settled is None else c.settled for c in courses],
        "nearly_settled": [c.nearly_settled if c.nearly_settled < iterations else math.inf for c in courses],
    }
    return {
        name: {f"q{round(100 * q)}": float(np.quantile(values, q, method="higher")) for q in QUANTILES}
        for name, values in numbers.items()
    }


def write_objects(path: Path, courses: Sequence[Course]) -> None:
    """One row per object, as CSV; ``settled`` is empty where a label changed in the last iteration."""
    rows: list[list[Any]] = [["image", "object", "pixels", "settled", "nearly_settled", "kl_start", "kl_end"]]
    for c in courses:
        settled = "" if c.settled is None else c.settled
        rows.append([c.name, c.instance, c.pixels, settled, c.nearly_settled, f"{c.kl[0]:.3f}", f"{c.kl[-1]:.3f}"])
    _write(path, rows)


def write_iterations(path: Path, courses: Sequence[Course]) -> None:
    """One row per iteration, as CSV: the share of settled objects, and quantiles over the objects of the relative KL
    and of the share of pixels that are not settled."""
    kl, pixels = (np.stack([getattr(c, name) for c in courses]) for name in ("relative_kl", "unsettled"))
    labels = [f"q{round(100 * q)}" for q in QUANTILES]
    header = [
        "iteration",
        "settled_objects",
        *(f"relative_kl_{q}" for q in labels),
        *(f"unsettled_{q}" for q in labels),
    ]
    rows: list[list[Any]] = [header]
    for t in range(kl.shape[1]):
        settled = np.mean([c.settled is not None and c.settled <= t for c in courses])
        values = [*np.quantile(kl[:, t], QUANTILES), *np.quantile(pixels[:, t], QUANTILES)]
        rows.append([t, f"{settled:.6f}", *(f"{v:.6f}" for v in values)])
    _write(path, rows)


def draw_courses(path: Path, courses: Sequence[Course], mark: int) -> None:
    """The paper's Figure 4 of a few objects: KL over the iterations, and the pixels that are not settled.

    Args:
        path: the PNG file.
        courses: those of the largest objects are drawn.
        mark: an iteration to mark, the last one of the refinement.
    """
    chosen = sorted(courses, key=lambda c: -c.pixels)[:_FEW]
    t = np.arange(len(chosen[0].kl))
    x = Axis("mean-field iteration")
    names = {c: f"{Path(c.name).stem} #{c.instance}" for c in chosen}
    panels = [
        Panel(
            x,
            Axis("KL(Q‖P) - log Z, nats per pixel of the mask"),
            [Line(t, c.kl / max(c.pixels, 1), names[c]) for c in chosen],
            title="Divergence",
            at=_mark(mark),
        ),
        Panel(
            x,
            Axis("pixels unlike the last mask, % of it"),
            [Line(t, 100 * c.unsettled, names[c]) for c in chosen],
            title="Labels",
            at=_mark(mark),
        ),
    ]
    draw_panels(path, panels)


def draw_quantiles(path: Path, courses: Sequence[Course], mark: int) -> None:
    """The same of many objects: median and quantiles, and how many objects are settled.

    Args:
        path: the PNG file.
        courses: of all objects.
        mark: an iteration to mark, the last one of the refinement.
    """
    t = np.arange(len(courses[0].kl))
    x = Axis("mean-field iteration")
    panels = []
    for name, label, title in (
        ("relative_kl", "KL minus its last value, % of its decrease", "Divergence"),
        ("unsettled", "pixels unlike the last mask, % of it", "Labels"),
    ):
        values = 100 * np.stack([getattr(c, name) for c in courses])
        low, quarter, median, three, high = np.quantile(values, QUANTILES, axis=0)
        lines = [
            Line(t, median, "median and 10 to 90 % of the objects", band=(low, high)),
            Line(t, quarter, "quartiles", thin=True),
            Line(t, three, "", thin=True),
        ]
        panels.append(Panel(x, Axis(label), lines, title=title, at=_mark(mark)))
    exactly = [100 * np.mean([c.settled is not None and c.settled <= k for c in courses]) for k in t]
    nearly = [100 * np.mean([c.nearly_settled <= k for c in courses]) for k in t]
    panels.append(
        Panel(
            x,
            Axis("objects, %"),
            [
                Line(t, exactly, "no label changes any more"),
                Line(t, nearly, f"less than {NEARLY:.1%} of the mask does"),
            ],
            title=f"Settled objects of {len(courses)}",
            at=_mark(mark),
        )
    )
    draw_panels(path, panels, columns=3)


def _mark(iterations: int) -> tuple[str, float]:
    return f"where the refinement stops: {iterations}", iterations


def _write(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
