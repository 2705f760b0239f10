"""Labeling configurations."""

from __future__ import annotations

import pytest

from crispmask.errors import DataError
from crispmask.integrations.label_studio.interface import Interface

LABELLED = """
<View>
  <View style="display: flex"><Image name="image" value="$photo" zoom="true"/></View>
  <RectangleLabels name="box" toName="image" smart="true"><Label value="Person"/><Label value="Dog"/></RectangleLabels>
  <PolygonLabels name="polygon" toName="image"><Label value="Person"/><Label value="Cat"/></PolygonLabels>
  <BrushLabels name="brush" toName="image"><Label value="Dog" alias="d"/><Label value="Horse"/></BrushLabels>
  <Choices name="light" toName="image"><Choice value="Day"/></Choices>
</View>"""
BARE = """
<View>
  <Image name="left" value="$a"/><Image name="right" value="$b"/>
  <Labels name="label" toName="left,right"><Label value="Person"/></Labels>
  <Rectangle name="box" toName="left,right"/><Brush name="brush" toName="right"/><Polygon name="polygon" toName="left"/>
</View>"""


def test_images_and_controls():
    found = Interface.from_xml(LABELLED)
    assert found.images == {"image": "photo"}
    assert {name: control.tag for name, control in found.controls.items()} == {
        "box": "rectanglelabels",
        "polygon": "polygonlabels",
        "brush": "brushlabels",
    }
    assert found.controls["brush"].labels == {"Dog", "d", "Horse"}


@pytest.mark.parametrize(
    ("labels", "drawn_by"),
    [({"Dog"}, "brush"), ({"d"}, "brush"), ({"Person"}, "polygon"), (set(), "brush"), ({"Dog", "Cat"}, None)],
)
def test_a_box_goes_to_the_tag_that_knows_its_labels(labels, drawn_by):
    found = Interface.from_xml(LABELLED)
    control = found.for_box(found.controls["box"], "image", labels)
    assert (control and control.name) == drawn_by


def test_a_box_without_labels_goes_to_a_tag_without():
    found = Interface.from_xml(BARE)
    assert found.images == {"left": "a", "right": "b"}
    for image, drawn_by in (("left", "polygon"), ("right", "brush")):
        control = found.for_box(found.controls["box"], image, set())
        assert control is not None
        assert control.name == drawn_by


def test_labels_from_the_tasks_are_all_taken():
    text = LABELLED.replace(
        '<BrushLabels name="brush" toName="image">', '<BrushLabels name="b" toName="image" value="$l">'
    )
    found = Interface.from_xml(text)
    control = found.for_box(found.controls["box"], "image", {"Zebra"})
    assert control is not None
    assert control.name == "b"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no labeling configuration"),
        ("", "no labeling configuration"),
        ("<View>", "not valid XML"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><View>&b;</View>", "document type"),
        ("<View><Text name='t' value='$t'/></View>", "no image"),
        (
            "<View><Image name='i' value='$i'/><RectangleLabels name='b' toName='i'/></View>",
            "add BrushLabels or PolygonLabels",
        ),
    ],
)
def test_what_cannot_hold_masks_is_refused(text, reason):
    with pytest.raises(DataError, match=reason):
        Interface.from_xml(text)
