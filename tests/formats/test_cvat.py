from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from crispmask.coco import CocoDataset
from crispmask.errors import DataError
from crispmask.formats import Style, convert
from crispmask.formats.cvat import _runs
from crispmask.instances import Instances

from .conftest import masks_by_name

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><job><labels>
<label><name>cat</name><color>#ff0000</color><type>any</type></label><label><name>dog</name></label>
</labels></job></meta>
"""


def read(tmp_path: Path, shapes: str, size: str = 'width="9" height="7"') -> tuple[CocoDataset, dict, dict]:
    """What a file with one image becomes: the data set, its masks, and what was lost."""
    image = f'<image id="0" name="a.jpg" subset="Train" task_id="3" {size}>{shapes}</image>'
    (tmp_path / "annotations.xml").write_text(f"{HEAD}{image}</annotations>")
    losses = convert(tmp_path / "annotations.xml", tmp_path / "out.json", to="coco")[2]
    return CocoDataset.from_file(tmp_path / "out.json"), masks_by_name(tmp_path / "out.json"), dict(losses.counts)


def test_run_lengths_are_those_of_cvat(tmp_path):
    """The numbers are what `cvat_sdk.masks.encode_mask` of cvat-sdk 2 gives for these masks."""
    mask = np.zeros((7, 9), bool)
    mask[1:5, 2:7] = True
    mask[2, 3:5] = mask[1, 2] = False
    x, y, width, height, runs = _runs(Instances.from_masks(mask).windows[0])
    assert [*runs, x, y, x + width - 1, y + height - 1] == [1, 5, 2, 12, 2, 1, 6, 4]
    for left, top, w, h, rle in (
        (2, 1, 5, 4, "1, 5, 2, 12"),
        (1, 0, 7, 6, "9, 4, 2, 1, 2, 2, 2, 5, 2, 5, 8"),
    ):
        shape = f'<mask label="dog" rle="{rle}" left="{left}" top="{top}" width="{w}" height="{h}" z_order="0"></mask>'
        dataset, masks, _ = read(tmp_path, shape)
        assert masks == {"a": [("dog", mask.tobytes())]}
    assert dict(dataset.categories) == {1: "cat", 2: "dog"}


def test_shapes(tmp_path):
    polygon = '<polygon label="cat" points="1.0,1.0;4.0,1.0;4.0,3.0;1.0,3.0" z_order="0"{}></polygon>'
    box = '<box label="cat" xtl="5.0" ytl="4.0" xbr="8.0" ybr="6.0"{}></box>'
    one, two = np.zeros((7, 9), bool), np.zeros((7, 9), bool)
    one[1:3, 1:4] = two[4:6, 5:8] = True
    group = ' group_id="4"'
    _, masks, _ = read(tmp_path, polygon.format(group) + box.format(group))
    assert masks == {"a": [("cat", (one | two).tobytes())]}
    _, masks, lost = read(tmp_path, polygon.format("") + box.format("") + '<points label="cat" points="1,1"></points>')
    assert masks == {"a": [("cat", one.tobytes()), ("cat", two.tobytes())]}
    assert lost == {"shapes of type points left out: they enclose no area": 1}
    _, masks, _ = read(tmp_path, '<ellipse label="dog" cx="4.5" cy="3.5" rx="2.5" ry="1.5"></ellipse>')
    (((_, content)),) = masks["a"]
    assert np.frombuffer(content, bool).sum() == 11


def test_polygons(truth):
    convert(truth, truth.parent / "p.xml", to="cvat", style=Style(polygons=True))
    root = ElementTree.parse(truth.parent / "p.xml").getroot()
    assert {shape.tag for image in root.iterfind("image") for shape in image} == {"polygon"}
    losses = convert(truth, truth.parent / "q.xml", to="cvat", style=Style(polygons=True))[2]
    assert losses.counts["holes filled: CVAT's polygons have none"] > 0
    convert(truth.parent / "p.xml", truth.parent / "back.json", to="coco")
    expected, found = masks_by_name(truth), masks_by_name(truth.parent / "back.json")
    for name in ("parts", "one pixel", "full", "edges", "diagonal"):  # those without holes
        assert found[name] == expected[name]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ('<mask label="cat" rle="1, 5" left="2" top="1" width="5" height="4"></mask>', "add up to its 5x4 pixels"),
        ('<mask label="cat" rle="-1, 21" left="2" top="1" width="5" height="4"></mask>', "add up to its 5x4 pixels"),
        ('<mask label="cat" rle="9e9" left="2" top="1" width="5" height="4"></mask>', "whole numbers with commas"),
        ('<mask label="cat" rle="20" left="7" top="1" width="5" height="4"></mask>', "beyond the image of 7x9"),
        ('<mask label="cat" left="2" top="1" width="5" height="4"></mask>', "<mask> has no 'rle'"),
        ('<polygon label="cat" points="1,2;3"></polygon>', "x,y;x,y"),
        ('<polygon label="cat" points="1,2;3,nan;4,4"></polygon>', "finite number, got 'nan'"),
        ('<polygon label="cat" points="1,2;3,3"></polygon>', "2 points"),
        ('<polygon points="1,2;3,3"></polygon>', "<polygon> has no 'label'"),
        ('<ellipse label="cat" cx="1" cy="1" rx="0" ry="1"></ellipse>', "above 0"),
    ],
)
def test_shapes_that_are_none(tmp_path, shape, words):
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, shape)
    assert "annotations.xml" in str(caught.value)
    assert not (tmp_path / "out.json").exists()


def test_files_that_are_none(tmp_path):
    for size, words in (
        ('width="0" height="7"', "no pixels"),
        ('width="99999999" height="99999999"', "more than the limit"),
        ('width="-3" height="7"', "whole number"),
    ):
        with pytest.raises(DataError, match=words):
            read(tmp_path, "", size)
    path = tmp_path / "a.xml"
    for content, words in (
        (b"<annotations>", "not valid XML"),
        (b"<svg></svg>", "its root is 'svg'"),
        (b"<annotations>\xff</annotations>", "not a text file in UTF-8"),
        (b'<annotations><track id="0"></track></annotations>', "tracks of a video"),
        (b'<!DOCTYPE a [<!ENTITY b "bbbb">]><annotations>&b;</annotations>', "declares a document type"),
        (b'<annotations><image name="../../x.jpg" width="1" height="1"/></annotations>', "leads out of its folder"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=words):
            convert(path, tmp_path / "out.json", to="coco")


def test_names_that_xml_cannot_hold(truth):
    content = json.loads(truth.read_text())
    content["categories"][1]["name"] = 'a <b> & "c"'
    truth.write_text(json.dumps(content))
    convert(truth, truth.parent / "t.xml", to="cvat")
    convert(truth.parent / "t.xml", truth.parent / "back.json", to="coco")
    assert set(CocoDataset.from_file(truth.parent / "back.json").categories.values()) == {"person", 'a <b> & "c"'}
    content["categories"][0]["name"] = "bell \a"
    truth.write_text(json.dumps(content))
    with pytest.raises(DataError, match="XML cannot hold"):
        convert(truth, truth.parent / "u.xml", to="cvat")
    assert not (truth.parent / "u.xml").exists()
