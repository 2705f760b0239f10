"""The cards of single instances."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from crispmask.evaluation.comparison import Comparison
from crispmask.evaluation.metrics import SIZE_NAMES, SIZES
from crispmask.evaluation.report.crops import Card
from crispmask.evaluation.report.markup import percent, points


def gallery(cards: Sequence[Card], comparison: Comparison, verb: str) -> str:
    """The cards of the instances that `verb`: "gained" or "lost"."""
    if not cards:
        return f"<p class=none>No matched instance {verb} IoU, or there was no room for crops.</p>"
    return f"<div class=gallery>{''.join(_card(card, comparison) for card in cards)}</div>"


def _card(card: Card, comparison: Comparison) -> str:
    pairs, k = comparison.pairs, card.pair
    label = escape(comparison.labels[int(pairs.category_id[k])])
    change = pairs.iou[k, 1] - pairs.iou[k, 0]
    size = next(name for name, (_, high) in zip(SIZE_NAMES[1:], SIZES[1:], strict=True) if pairs.area[k] <= high)
    panels = "".join(
        f'<figure class="{name}"><img src="{uri}" alt="{escape(words)}: {label} in {escape(card.file_name)}">'
        f"<figcaption>{escape(words)}</figcaption></figure>"
        for name, (words, uri) in zip(("before", "after", "annotation", "change"), card.panels, strict=True)
    )
    fields = "".join(
        f"<div><dt>{name}</dt><dd>{percent(values[k, 0])} → {percent(values[k, 1])}</dd></div>"
        for name, values in (("IoU", pairs.iou), ("boundary IoU", pairs.boundary_iou))
    )
    fields += f"<div><dt>score</dt><dd>{card.score:.2f}</dd></div>"
    fields += f"<div><dt>size</dt><dd>{size}, {pairs.area[k]:.0f} px</dd></div>"
    side = "better" if change > 0 else "worse"
    return (
        f"<article><header><b>{label}</b><b class={side}>{points(change)}</b></header>"
        f"<div class=panels>{panels}</div><dl>{fields}</dl><p class=file>{escape(card.file_name)}</p></article>"
    )
