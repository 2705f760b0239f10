"""The page: its parts in order, and the crops that fit into its size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from crispmask.coco import CocoDataset
from crispmask.coco.images import ImageFolder
from crispmask.errors import ParamsError
from crispmask.evaluation.comparison import SMALLEST_CHANGE, Comparison
from crispmask.evaluation.report import groups, sections
from crispmask.evaluation.report.crops import Card, make_card
from crispmask.evaluation.report.gallery import gallery
from crispmask.evaluation.report.sections import iou_changes
from crispmask.files import write_text

DEFAULT_CROPS = 12
DEFAULT_MEGABYTES = 8.0


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: the page.
        bytes: its size.
        best, worst: crops of instances that gained, and that lost.
        left_out: crops that did not fit into the size of the page.
    """

    path: Path
    bytes: int
    best: int
    worst: int
    left_out: int


def write_report(
    path: str | Path,
    dataset: CocoDataset,
    images: str | Path,
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    comparison: Comparison,
    *,
    crops: int = DEFAULT_CROPS,
    megabytes: float = DEFAULT_MEGABYTES,
    title: str | None = None,
    on_crop: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write the page about two results.

    Args:
        path: of the HTML file; an older one is replaced when the page is complete.
        dataset: the ground truth.
        images: folder of its images.
        results: the two results' records by name, before and after.
        comparison: of these results, from `crispmask.evaluation.comparison.compare`.
        crops: instances to show of those that gained most, and of those that lost most.
        megabytes: crops are left out, the least changed first, to keep the page below this size.
        title: of the page; by default made from the names.
        on_crop: called after each crop with the number done and the number of all.

    Raises:
        ParamsError: not two results, or limits below 0.
        DataError: images that are missing or not those of the annotations.
    """
    if len(comparison.names) != 2 or tuple(results) != comparison.names:
        raise ParamsError(f"a report is about two results, before and after; got {len(results)}")
    if crops < 0 or not megabytes > 0:
        raise ParamsError("the number of crops cannot be negative, and the size of the page must be above 0")
    files = ImageFolder(Path(images), dataset)
    best, worst = _extremes(comparison, crops)
    cards: dict[int, Card] = {}
    left, room = [], megabytes * 1e6 - 100_000  # for everything but the crops
    order = [pair for rank in range(crops) for side in (best, worst) for pair in side[rank : rank + 1]]
    for done, pair in enumerate(order, start=1):
        card = make_card(dataset, files, results, comparison.pairs, pair)
        if card.weight > room:
            left.append(pair)
        else:
            cards[pair] = card
            room -= card.weight
        on_crop(done, len(order))
    shown = [[cards[pair] for pair in side if pair in cards] for side in (best, worst)]
    name = title or " → ".join(comparison.names)
    page = Template(_resource("page.html")).substitute(
        title=escape(name),
        style=_resource("style.css"),
        lead=sections.lead(comparison, dataset),
        tiles=sections.tiles(comparison),
        table=sections.table(comparison),
        spread=sections.spread(comparison),
        sizes=groups.sizes(comparison, dataset),
        categories=groups.categories(comparison),
        best=gallery(shown[0], comparison, "gained"),
        worst=gallery(shown[1], comparison, "lost"),
        foot=sections.foot(comparison, len(left)),
    )
    write_text(Path(path), page)
    return Report(Path(path), Path(path).stat().st_size, len(shown[0]), len(shown[1]), len(left))


def _resource(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _extremes(comparison: Comparison, n: int) -> tuple[list[int], list[int]]:
    """The pairs that gained most IoU, and those that lost most."""
    change, _ = iou_changes(comparison)
    order = np.argsort(change, kind="stable").tolist()
    worst = [k for k in order[:n] if change[k] < -SMALLEST_CHANGE]
    best = [k for k in order[::-1][:n] if change[k] > SMALLEST_CHANGE]
    return best, worst
