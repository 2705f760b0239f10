"""Results of annotations, refined on a real photo."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from crispmask import CRFParams
from crispmask.integrations.label_studio import brush, shapes
from crispmask.integrations.label_studio.interface import Interface
from crispmask.integrations.label_studio.results import Refined, refine_result
from crispmask.integrations.label_studio.tasks import result_of
from crispmask.refinement import default_params

INTERFACE = Interface.from_xml("""
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="box" toName="image"><Label value="Person"/></RectangleLabels>
  <PolygonLabels name="polygon" toName="image"><Label value="Person"/></PolygonLabels>
  <BrushLabels name="brush" toName="image"><Label value="Person"/></BrushLabels>
  <Ellipse name="ellipse" toName="image"/>
</View>""")
BARE = Interface.from_xml("""
<View>
  <Image name="image" value="$image"/><Labels name="label" toName="image"><Label value="Person"/></Labels>
  <Rectangle name="box" toName="image"/><Polygon name="polygon" toName="image"/>
</View>""")
PERSON = [[20, 10], [70, 10], [75, 99], [10, 99]]
BOX = {"x": 4.0, "y": 0.5, "width": 74.0, "height": 99.0, "rotation": 0}


def region(kind: str, tag: str, value: dict[str, Any], key: str = "r1", **more: Any) -> dict[str, Any]:
    common = {"to_name": "image", "original_width": 512, "original_height": 512, "image_rotation": 0}
    return {**common, "id": key, "from_name": tag, "type": kind, "value": value, "origin": "manual", **more}


def refined(items: list[Any], photo: np.ndarray, interface: Interface = INTERFACE, **options: Any) -> Refined:
    """With a gate that lets everything pass; what comes in is not changed, and what comes out is JSON."""
    params = options.pop("params", default_params().with_overrides({"gated": "none"}))
    before = copy.deepcopy(items)
    result = refine_result(items, interface, lambda name: photo, params, **options)
    assert items == before
    json.dumps(result.items)
    return result


def mask_of(item: dict[str, Any]) -> np.ndarray:
    return shapes.read(item["value"], (512, 512)).instance.mask(0)


@pytest.fixture(scope="module")
def person(astronaut) -> np.ndarray:
    """What `refine` makes of the box itself."""
    from crispmask import refine

    return refine(astronaut, boxes=[0.04 * 512, 0.005 * 512, 0.78 * 512, 0.995 * 512]).mask(0)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_rectangle_becomes_a_brush_of_its_label(astronaut, person):
    found = refined([region("rectanglelabels", "box", {**BOX, "rectanglelabels": ["Person"]})], astronaut)
    (item,) = found.items
    assert (item["id"], item["type"], item["from_name"], item["to_name"]) == ("r1", "brushlabels", "brush", "image")
    assert item["value"]["brushlabels"] == ["Person"]
    assert set(item["value"]) == {"brushlabels", "format", "rle"}
    assert np.array_equal(mask_of(item), person)
    assert 0.5 < item["score"] <= 1
    assert found.score == item["score"]
    assert "origin" not in item
    assert not found.notes


def test_polygons_and_brushes_stay_what_they_are(astronaut, person):
    polygon = region("polygonlabels", "polygon", {"points": PERSON, "closed": True, "polygonlabels": ["Person"]}, "p")
    coarse = mask_of(polygon)
    stroke = region(
        "brushlabels", "brush", {"format": "rle", "rle": brush.encode(coarse), "brushlabels": ["Person"]}, "b"
    )
    found = refined([polygon, stroke], astronaut)
    assert [item["type"] for item in found.items] == ["polygonlabels", "brushlabels"]
    assert [item["value"][item["type"]] for item in found.items] == [["Person"], ["Person"]]
    for item in found.items:
        assert iou(mask_of(item), person) > 0.9 > iou(coarse, person)
    assert len(found.items[0]["value"]["points"]) > 20


def test_all_items_of_a_region_change_together(astronaut, person):
    """The tags Labels, Rectangle and a text for every region make three items with one id."""
    items = [
        region("rectangle", "box", dict(BOX)),
        region("labels", "label", {**BOX, "labels": ["Person"]}),
        region("textarea", "name", {**BOX, "text": ["Eileen"]}),
        {"type": "relation", "from_id": "r1", "to_id": "other", "direction": "right"},
        {"type": "choices", "from_name": "light", "to_name": "image", "id": "c", "value": {"choices": ["Day"]}},
    ]
    shape, label, text, *others = refined(items, astronaut, BARE).items
    assert (shape["type"], shape["from_name"]) == ("polygon", "polygon")
    assert (label["type"], label["from_name"], label["value"]["labels"]) == ("labels", "label", ["Person"])
    assert (text["type"], text["from_name"], text["value"]["text"]) == ("textarea", "name", ["Eileen"])
    assert {"x", "rotation", "width"}.isdisjoint(shape["value"] | label["value"] | text["value"])
    assert shape["value"]["points"] == label["value"]["points"] == text["value"]["points"]
    assert iou(mask_of(shape), person) > 0.97
    assert others == items[3:]


def test_new_ids_keep_what_belongs_together(astronaut):
    box = {**BOX, "rectanglelabels": ["Person"]}
    items = [
        region("rectanglelabels", "box", box, "a"),
        region("rectanglelabels", "box", box, "b", parentID="a"),
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
    ]
    a, b, relation = refined(items, astronaut, new_ids=True).items
    assert len({"a", "b", a["id"], b["id"]}) == 4
    assert b["parentID"] == a["id"]
    assert (relation["from_id"], relation["to_id"]) == (a["id"], b["id"])


def test_what_the_gate_leaves_alone_does_not_change(astronaut, person):
    stroke = region("brushlabels", "brush", {"format": "rle", "rle": brush.encode(person), "brushlabels": ["Person"]})
    found = refined([stroke], astronaut, params=default_params())
    assert found.items == [stroke]
    assert found.score is None


@pytest.mark.parametrize(
    "item",
    [
        region("rectanglelabels", "box", {**BOX, "rectanglelabels": ["Person"]}, image_rotation=90),
        region("rectanglelabels", "box", {**BOX, "rectanglelabels": ["Person"]}, item_index=1),
        region("rectanglelabels", "box", {**BOX, "rectanglelabels": ["Person"]}, to_name="text"),
        region("ellipselabels", "ellipse", {"x": 50, "y": 50, "radiusX": 20, "radiusY": 20, "rotation": 0}),
        region("keypointlabels", "key", {"x": 50, "y": 50, "width": 1}),
        region("choices", "light", {"choices": ["Day"]}),
        {"type": "relation", "from_id": "a", "to_id": "b"},
        {"value": {"points": None}},
        {},
    ],
)
def test_other_items_stay(astronaut, item):
    def photo(name: str) -> np.ndarray:
        raise AssertionError("the photo is not needed")

    found = refine_result([item], INTERFACE, photo, default_params())
    assert found.items == [item]
    assert (found.score, found.notes) == (None, [])


def test_a_damaged_region_does_not_end_the_others(astronaut):
    items = [
        region("rectanglelabels", "box", {**BOX, "rectanglelabels": ["Person"]}, "good"),
        region("rectanglelabels", "box", {**BOX, "width": -5, "rectanglelabels": ["Person"]}, "negative"),
        region("rectanglelabels", "box", {**BOX, "rectanglelabels": ["Dragon"]}, "unknown"),
        region("polygonlabels", "polygon", {"points": [[0, 0]], "polygonlabels": ["Person"]}, "point"),
        "no item",
    ]
    found = refined(items, astronaut)
    assert [item["id"] for item in found.items] == ["good", "negative", "unknown", "point"]
    assert found.items[0]["type"] == "brushlabels"
    assert found.items[1:] == items[1:4]
    assert len(found.notes) == 3
    for name, note in zip(("negative", "unknown", "point"), found.notes, strict=True):
        assert repr(name) in note
    assert "no brush or polygon with Dragon" in found.notes[1]


def test_fixed_parameters_refine_masks_only(astronaut):
    items = [
        region("rectanglelabels", "box", {**BOX, "rectanglelabels": ["Person"]}, "box"),
        region("polygonlabels", "polygon", {"points": PERSON, "polygonlabels": ["Person"]}, "polygon"),
    ]
    found = refined(items, astronaut, params=CRFParams())
    assert found.items[0] == items[0]
    assert found.items[1]["value"] != items[1]["value"]
    assert len(found.notes) == 1


@pytest.mark.parametrize(
    ("task", "chosen"),
    [
        ({}, []),
        ({"annotations": None, "predictions": "x"}, []),
        (
            {"annotations": [{"result": ["a"], "updated_at": "2026-02"}, {"result": ["b"], "updated_at": "2026-01"}]},
            ["a"],
        ),
        ({"annotations": [{"result": ["a"], "updated_at": "2026-01-02", "was_cancelled": True}]}, []),
        (
            {
                "annotations": [{"result": ["a"], "updated_at": "2026-01-02"}],
                "drafts": [{"result": ["d"], "updated_at": "2026-01-03"}],
                "predictions": [{"result": ["p"], "model_version": "yolo", "created_at": "2026-01-09"}],
            },
            ["d"],
        ),
        (
            {
                "predictions": [
                    {"result": ["own"], "model_version": "own", "created_at": "2026-01-09"},
                    {"result": ["p"], "model_version": "yolo", "created_at": "2026-01-08"},
                ]
            },
            ["p"],
        ),
    ],
)  # fmt: skip
def test_the_latest_drawing_is_refined_or_else_another_models(task, chosen):
    assert result_of(task, "own") == chosen
