"""The result of an annotation, refined: a list of regions and of whatever else belongs to it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.errors import CrispmaskError, DataError
from crispmask.instances import Instances, Window
from crispmask.integrations.label_studio import shapes
from crispmask.integrations.label_studio.interface import KINDS, Control, Interface
from crispmask.params import CRFParams
from crispmask.refinement import LearnedParams, refine_instances

Item = dict[str, Any]

_TYPES = ("labels", *KINDS, *(f"{kind}labels" for kind in KINDS))


@dataclass
class Refined:
    """A result after refinement.

    Attributes:
        items: as they came, with other masks.
        score: mean of the refined regions' scores, each the mean probability of its pixels; None where there is none.
        notes: a sentence about each region that was left as it was, unless the learned gate decided that.
    """

    items: list[Item]
    score: float | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class _Region:
    """A region: one object of one image, which one item or several describe."""

    items: list[Item]
    shape: shapes.Shape
    kind: str
    control: Control  # that draws its mask


def refine_result(
    items: Sequence[Any],
    interface: Interface,
    photo: Callable[[str], NDArray[np.uint8]],
    params: CRFParams | LearnedParams,
    *,
    tolerance: float = 1.0,
    new_ids: bool = False,
) -> Refined:
    """Refine the brush, polygon and rectangle regions of an annotation's result.

    Brushes and polygons stay what they are. A rectangle becomes a region of the first brush tag, or else polygon tag,
    that knows its labels. Everything else stays: labels, texts and choices of a region, relations, other shapes, and
    regions of photos that were turned in Label Studio.

    Args:
        items: the ``result`` of an annotation, a draft or a prediction.
        interface: of the project.
        photo: gives an image, uint8 (H, W, 3) RGB, by its name in the interface; it is called for those with regions.
        params: of the refinement; only learned ones can make masks from rectangles.
        tolerance: of polygons, pixels; see `shapes.write`.
        new_ids: give all regions ids of their own, for a result that is shown beside the old one.

    Raises:
        CrispmaskError: what `photo` raises.
    """
    copies = [dict(item) for item in items if isinstance(item, dict)]
    refined = Refined(copies)
    scores: list[float] = []
    for name in interface.images:
        groups = _groups(copies, name)
        if groups:
            scores += _refine(groups, name, interface, photo(name), params, tolerance, refined.notes)
    if scores:
        refined.score = float(np.mean(scores))
    if new_ids:
        _rename(copies)
    return refined


def _groups(items: list[Item], image: str) -> list[list[Item]]:
    """The items of every region of an image; all items of a region have its id."""
    found: dict[Any, list[Item]] = {}
    for k, item in enumerate(items):
        if item.get("to_name") == image and not item.get("image_rotation") and not item.get("item_index"):
            key = item.get("id")
            found.setdefault(key if isinstance(key, str) else k, []).append(item)
    return [group for group in found.values() if _drawn(group) is not None]


def _drawn(group: list[Item]) -> Item | None:
    """The item that says where a region is; None where it is no region that can be refined."""
    found = [item for item in group if item.get("type") in _TYPES and shapes.kind_of(item.get("value"))]
    return min(found, key=lambda item: item["type"] == "labels", default=None)


def _refine(
    groups: list[list[Item]],
    image: str,
    interface: Interface,
    pixels: NDArray[np.uint8],
    params: CRFParams | LearnedParams,
    tolerance: float,
    notes: list[str],
) -> list[float]:
    """Refine the regions of an image in place; gives the scores of those that changed."""
    size = pixels.shape[0], pixels.shape[1]
    regions = []
    for group in groups:
        try:
            region = _region(group, image, interface, size)
            if region.kind == "rectangle" and isinstance(params, CRFParams):
                raise DataError("fixed parameters make no masks from rectangles")
            regions.append(region)
        except CrispmaskError as error:
            notes.append(f"region {group[0].get('id')!r}: {error}; it is left as it was")
    if not regions:
        return []
    before = Instances.concatenate([region.shape.instance for region in regions])
    after, _ = refine_instances(pixels, before, params, from_boxes=[region.shape.from_box for region in regions])
    scores = []
    for region, old, new in zip(regions, before.windows, after.windows, strict=True):
        if new is not old:
            scores.append(_change(region, new, size, tolerance))
        elif region.kind == "rectangle":
            notes.append(f"region {region.items[0].get('id')!r}: no object was found in the rectangle")
    return scores


def _region(group: list[Item], image: str, interface: Interface, size: tuple[int, int]) -> _Region:
    item = _drawn(group)
    assert item is not None
    kind = shapes.kind_of(item["value"]) or ""
    control = interface.controls.get(str(item.get("from_name")))
    if control is None:  # a region of the tag Labels alone, or of a tag that was taken away
        control = Control(str(item.get("from_name")), kind, {image}, None)
    if kind == "rectangle":
        labels = _labels(group)
        found = interface.for_box(control, image, labels)
        if found is None:
            named = f" with {', '.join(sorted(labels))}" if labels else ""
            raise DataError(f"the labeling configuration has no brush or polygon{named} to draw its mask with")
        control = found
    score = item.get("score")
    known = score if isinstance(score, float) and 0 <= score <= 1 else 1.0
    return _Region(group, shapes.read(item["value"], size, known), kind, control)


def _labels(group: list[Item]) -> set[str]:
    """The labels of a rectangle that has its own."""
    found = [item["value"].get("rectanglelabels") for item in group if isinstance(item.get("value"), Mapping)]
    return {label for labels in found if isinstance(labels, list) for label in labels if isinstance(label, str)}


def _change(region: _Region, window: Window, size: tuple[int, int], tolerance: float) -> float:
    """Give a region another mask, in all its items; returns its score."""
    kind = "brush" if region.control.tag.startswith("brush") else "polygon"
    geometry = shapes.write(kind, window, size, tolerance)
    score = round(float(window.probabilities[window.mask].mean()), 4)
    for item in region.items:
        if shapes.kind_of(item.get("value")) is None:
            continue
        value = {name: v for name, v in item["value"].items() if name not in shapes.GEOMETRY}
        if region.kind == "rectangle" and item.get("type") in ("rectangle", "rectanglelabels"):
            if item["type"] in value:
                value[region.control.tag] = value.pop(item["type"])
            item["type"], item["from_name"] = region.control.tag, region.control.name
        item["value"] = {**geometry, **value}
        item["score"] = score
        item.pop("origin", None)  # it was drawn by hand no longer
        item["original_height"], item["original_width"] = size
    return score


def _rename(items: list[Item]) -> None:
    new: dict[str, str] = {}
    for item in items:
        for name in ("id", "from_id", "to_id", "parentID"):
            old = item.get(name)
            if isinstance(old, str):
                item[name] = new.setdefault(old, uuid.uuid4().hex[:10])
