from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from crispmask.coco import CocoDataset, mask_to_rle, read_results
from crispmask.errors import CrispmaskError, DataError
from crispmask.evaluation import average_precision
from crispmask.formats import FORMATS, Style, convert, guess
from crispmask.formats.png import voc_palette

from .conftest import masks_by_name

LOSSLESS = ["coco", "results", "yolo", "labelme", "cvat", "png"]


def there_and_back(truth: Path, images: Path, name: str, style: Style | None = None, hints: bool = False):
    """`truth` in a format and then in COCO's again; the two reports."""
    folder = truth.parent
    target = (
        folder / "there.json" if name == "coco" else folder / "there" / "r.json" if name == "results" else folder / "t"
    )
    first = convert(truth, target, to=name, style=style)
    assert guess(target) == name
    options = {"images": images if name == "yolo" else None, "annotations": truth if hints else None}
    second = convert(target, folder / "back.json", to="coco", **options)
    return first, second


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("hints", [False, True])
def test_round_trip(truth, images, name, hints):
    if name == "png":  # a pixel has one number: the three objects of one image must not overlap
        content = json.loads(truth.read_text())
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 17 or a["category_id"] == 7]
        truth.write_text(json.dumps(content))
    first, second = there_and_back(truth, images, name, hints=hints)
    expected = masks_by_name(truth)
    found = masks_by_name(truth.parent / "back.json")
    assert {key: value for key, value in found.items() if value} == {k: v for k, v in expected.items() if v}
    assert set(found) == set(expected)
    assert first[:2] == second[:2] == (9, sum(map(len, expected.values())))
    if hints or name in ("coco", "results", "png"):
        before, after = CocoDataset.from_file(truth), CocoDataset.from_file(truth.parent / "back.json")
        assert dict(after.images) == dict(before.images)
        assert dict(after.categories) == dict(before.categories)
    COCO(str(truth.parent / "back.json"))  # pycocotools reads it


def test_what_cannot_be_kept_is_said(truth, images, tricky_masks):
    content = json.loads(truth.read_text())
    empty = mask_to_rle(np.zeros((37, 53), bool))
    more = {"image_id": 10, "category_id": 3, "id": 99}
    content["annotations"] += [
        {**more, "id": 98, "iscrowd": 1, "segmentation": mask_to_rle(tricky_masks["edges"])},
        {**more, "iscrowd": 0, "segmentation": empty, "score": 0.25},
    ]
    truth.write_text(json.dumps(content))
    told = {}
    for name in FORMATS:
        target = truth.parent / name / "out.json" if name in ("coco", "results") else truth.parent / name
        told[name] = dict(convert(truth, target, to=name)[2].counts)
    assert told["coco"] == {}
    assert told["results"] == {"crowd regions left out: results have none": 1}
    assert told["yolo"] == {
        "objects with holes, joined to their outlines by lines of zero width": 2,
        "objects of several parts, joined by lines of zero width": 4,
        "crowd regions left out: YOLO has none": 1,
        "empty masks left out: YOLO has no line for them": 1,
    }
    assert told["labelme"] == {"empty masks left out: LabelMe has no shape for them": 1}
    assert told["cvat"] == {
        "crowd regions left out: CVAT has none": 1,
        "empty masks left out: CVAT has no shape for them": 1,
    }
    assert set(told["png"]) == {"pixels of overlapping objects, given to one of them"}
    back = CocoDataset.from_file(truth.parent / "coco" / "out.json")
    assert [(a["iscrowd"], a.get("score", 1)) for a in back.annotations[10]] == [(0, 1), (1, 1), (0, 0.25)]
    convert(truth.parent / "labelme", truth.parent / "back.json", to="coco", annotations=truth)
    assert [a["iscrowd"] for a in CocoDataset.from_file(truth.parent / "back.json").annotations[10]] == [0, 1]


def test_coco_polygons(truth, images):
    there_and_back(truth, images, "coco", Style(polygons=True))
    polygons = json.loads((truth.parent / "there.json").read_text())["annotations"]
    assert all(isinstance(a["segmentation"], list) for a in polygons)
    assert len(polygons[0]["segmentation"]) == 1  # holes do not make parts
    assert len(polygons[1]["segmentation"]) == 3
    assert masks_by_name(truth.parent / "there.json") == masks_by_name(truth)
    coco = COCO(str(truth.parent / "there.json"))
    for key, expected in masks_by_name(truth).items():
        (image,) = [i for i in coco.imgs.values() if i["file_name"] == f"{key}.jpg"]
        found = [coco.annToMask(a).astype(bool).tobytes() for a in coco.loadAnns(coco.getAnnIds(image["id"]))]
        assert found == [mask for _, mask in expected]
    with pytest.raises(DataError, match="hold run lengths"):
        convert(truth, truth.parent / "r" / "r.json", to="results", style=Style(polygons=True))


def test_results_are_those_that_evaluate_takes(truth, images):
    there_and_back(truth, images, "results")
    assert average_precision(truth, truth.parent / "there" / "r.json")["AP"] > 0.99
    assert len(read_results(truth.parent / "there" / "r.json")) == 10
    (truth.parent / "there" / "images.json").write_text("{}")
    with pytest.raises(DataError, match="lists other images"):
        convert(truth, truth.parent / "there" / "again.json", to="results")


def test_results_without_names(truth, tmp_path):
    (tmp_path / "bare").mkdir()
    path = tmp_path / "bare" / "r.json"
    record = {"image_id": 10, "category_id": 3, "score": 0.5, "segmentation": mask_to_rle(np.ones((37, 53), bool))}
    path.write_text(json.dumps([record, {**record, "image_id": 5}]))
    with pytest.raises(DataError, match="add --annotations"):
        convert(path, tmp_path / "out.json", to="coco")
    with pytest.raises(DataError, match="result 1: there is no image with the id 5"):
        convert(path, tmp_path / "out.json", to="coco", annotations=truth)
    broken = {"segmentation": [[1, 2, 3, 4]]}, {"category_id": 99}
    for change, words in zip(broken, ("polygon 0 has 2 points", "there is no category with the id 99"), strict=True):
        path.write_text(json.dumps([record, {**record, **change}]))
        with pytest.raises(DataError, match=f"r.json: result 1: {words}"):
            convert(path, tmp_path / "out.json", to="coco", annotations=truth)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.needs("cv2")
def test_yolo_is_what_opencv_fills(truth, images, tricky_masks):
    """Ultralytics fills polygons by OpenCV, which also draws their outline: nothing is more than a pixel off."""
    import cv2

    convert(truth, truth.parent / "t", to="yolo")
    assert sorted(p.name for p in (truth.parent / "t" / "labels").iterdir()) == sorted(
        [*(f"{name}.txt" for name in tricky_masks), "sub"]
    )
    for name in ("holes", "full", "one pixel"):
        number, *values = (truth.parent / "t" / "labels" / f"{name}.txt").read_text().split()
        assert number == "0"
        corners = np.array(values, float).reshape(-1, 2) * (53, 37)
        filled = np.zeros((37, 53), np.uint8)
        cv2.fillPoly(filled, [np.round(corners - 0.5).astype(np.int32)], 1)
        grown = cv2.dilate(tricky_masks[name].astype(np.uint8), np.ones((3, 3), np.uint8))
        assert (filled <= grown).all()
        assert (filled >= tricky_masks[name]).all()
    assert (truth.parent / "t" / "labels" / "sub" / "none.txt").read_text() == ""
    assert '  1: "potted: plant"' in (truth.parent / "t" / "data.yaml").read_text()


def test_yolo_predictions_with_scores_and_names_as_a_list(images, tmp_path):
    (tmp_path / "y" / "labels").mkdir(parents=True)
    (tmp_path / "y" / "data.yaml").write_text("names: [person, dog]\n")
    (tmp_path / "y" / "labels" / "full.txt").write_text("1 0 0 0.48 0 0.48 1 0 1 0.75\n\n")
    assert convert(tmp_path / "y", tmp_path / "c.json", to="coco", images=images)[:2] == (9, 1)
    dataset = CocoDataset.from_file(tmp_path / "c.json")
    (record,) = [r for records in dataset.annotations.values() for r in records]
    assert (dataset.categories[record["category_id"]], record["score"], record["area"]) == ("dog", 0.75, 37 * 25)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x 1 2 3", r"full\.txt: line 1: expected a class number"),
        ("0 0.1 0.2 0.3 nan 0.1 0.3", "line 1: polygon 0 has a coordinate that is NaN"),
        ("0 0.1 0.2 0.3 0.4", "line 1 is a box"),
        ("9 0 0 1 0 1 1", "there is no class 9"),
        ("0 0 0 1 0 1 1 7", r"the score must be in \[0, 1\]"),
        ("0 50 50 1 0 1 1", "leaves the image"),
        ("0", "needs at least 3|empty"),
    ],
)
def test_yolo_lines_that_are_none(images, tmp_path, line, reason):
    (tmp_path / "y" / "labels").mkdir(parents=True)
    (tmp_path / "y" / "data.yaml").write_text("names: {0: person}\n")
    (tmp_path / "y" / "labels" / "full.txt").write_text(line)
    with pytest.raises(DataError, match=reason):
        convert(tmp_path / "y", tmp_path / "c.json", to="coco", images=images)
    assert not (tmp_path / "c.json").exists()
    with pytest.raises(DataError, match="add --images"):
        convert(tmp_path / "y", tmp_path / "c.json", to="coco")
    (tmp_path / "y" / "labels" / "nothing.txt").write_text(line)
    with pytest.raises(DataError, match=r"nothing\.txt belongs to no image"):
        convert(tmp_path / "y", tmp_path / "c.json", to="coco", images=images)


def labelme(path: Path, *shapes: dict, **changes: object) -> Path:
    content = {"version": "5.5.0", "shapes": shapes, "imagePath": "..\\photos\\a.jpg", "imageData": None}
    content.update({"imageHeight": 20, "imageWidth": 30, **changes})
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_labelme_shapes(tmp_path):
    square = {"label": "cat", "shape_type": "polygon", "points": [[1, 1], [5, 1], [5, 5], [1, 5]]}
    labelme(
        tmp_path / "l" / "a.json",
        {**square, "group_id": 4},
        {"label": "cat", "shape_type": "rectangle", "points": [[10, 12], [8, 10]], "group_id": 4},
        {"label": "dog", "shape_type": "circle", "points": [[20, 10], [20, 13]]},
        {"label": "dog", "shape_type": "line", "points": [[0, 0], [1, 1]]},
        square,
    )
    *counts, losses = convert(tmp_path / "l", tmp_path / "c.json", to="coco")
    assert counts == [1, 3]
    assert dict(losses.counts) == {"shapes of type line left out: they enclose no area": 1}
    dataset = CocoDataset.from_file(tmp_path / "c.json")
    assert dataset.images[1].file_name == "a.jpg"
    assert [(dataset.categories[r["category_id"]], r["area"]) for r in dataset.annotations[1]] == [
        ("cat", 20),
        ("dog", 32),
        ("cat", 16),
    ]
    # One file is a set of one.
    assert convert(tmp_path / "l" / "a.json", tmp_path / "d.json", to="coco")[:2] == (1, 3)


def png(width: int, height: int) -> str:
    stream = io.BytesIO()
    Image.new("1", (width, height), 1).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"points": [[1, 1], [2, 2]]}, "shape 0: polygon 0 has 2 points"),
        ({"points": 3}, "'points' must be a list of"),
        ({"points": [[1, float("nan")]] * 3}, "a coordinate must be a finite number"),
        ({"shape_type": "circle", "points": [[1, 1]]}, "a circle needs 2 points, got 1"),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]]}, "'mask' must be a PNG in base64"),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "QUJD"}, "'mask' must be a PNG in base64"),
        ({"shape_type": "mask", "points": [[25, 0], [1, 1]], "mask": png(30, 20)}, None),
        (
            {"shape_type": "mask", "points": [[5, 0], [34, 19]], "mask": png(30, 20)},
            "the mask extends beyond the image",
        ),
        ({"shape_type": "mask", "points": [[0, 0], [99, 99]], "mask": png(99, 99)}, "larger than the image"),
        ({"label": 3}, "must be an object with a 'label'"),
    ],
)
def test_labelme_shapes_that_are_none(tmp_path, shape, reason):
    labelme(tmp_path / "l" / "a.json", {"label": "x", "points": [], **shape})
    with pytest.raises(DataError, match=reason or "extends beyond the image"):
        convert(tmp_path / "l", tmp_path / "c.json", to="coco")
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"imagePath": None}, "'imagePath' must be the name"),
        ({"imagePath": ".."}, "leads out of its folder"),
        ({"imageHeight": "20"}, "'imageHeight' must be a whole number"),
        ({"imageHeight": 10**6, "imageWidth": 10**6}, "limit of 160 megapixels: scale"),
        ({"shapes": {}}, "list of 'shapes'"),
    ],
)
def test_labelme_files_that_are_none(tmp_path, changes, reason):
    labelme(tmp_path / "l" / "a.json", **changes)
    with pytest.raises(DataError, match=reason):
        convert(tmp_path / "l", tmp_path / "c.json", to="coco")


def embedded(width: int, height: int) -> str:
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "JPEG")
    return base64.b64encode(stream.getvalue()).decode()


def test_labelme_sizes_are_those_of_the_image(tmp_path):
    """A wrong size is found by `convert`, and not by what reads its output."""
    file = labelme(tmp_path / "l" / "a.json", imagePath="a.jpg")
    output = tmp_path / "c.json"
    Image.new("RGB", (30, 20)).save(tmp_path / "l" / "a.jpg")
    assert convert(file, output, to="coco")[0] == 1
    Image.new("RGB", (20, 30)).save(tmp_path / "l" / "a.jpg")
    with pytest.raises(DataError, match=r"a\.json says that .*a\.jpg has 20x30 pixels .* but it has 30x20"):
        convert(file, output, to="coco")
    (tmp_path / "l" / "a.jpg").unlink()
    labelme(file, imageData=embedded(30, 20))
    assert convert(file, output, to="coco")[0] == 1
    labelme(file, imageData=embedded(29, 20))
    with pytest.raises(DataError, match=r"a\.json says that its image has 20x30 .* the image embedded in it has 20x29"):
        convert(file, output, to="coco")
    labelme(file, imageData="no image")  # not what is converted
    assert convert(file, output, to="coco")[0] == 1


@pytest.mark.parametrize("name", ["coco", "labelme", "png", "results"])
def test_sizes_are_compared_with_the_given_images(truth, images, name):
    folder = truth.parent
    target = folder / "r" / "r.json" if name in ("coco", "results") else folder / "t"
    convert(truth, target, to=name)
    assert convert(target, folder / "c.json", to="coco", images=images)[0] == 9
    Image.new("RGB", (53, 36)).save(images / "sub" / "many.jpg")
    (folder / "c.json").unlink()
    with pytest.raises(DataError, match=r"many\.(jpg|png) has 37x53 pixels .* but it has 36x53"):
        convert(target, folder / "c.json", to="coco", images=images)
    assert not (folder / "c.json").exists()


def test_label_maps_of_overlapping_objects(truth, images):
    first, _ = there_and_back(truth, images, "png")
    lost = first[2].counts["pixels of overlapping objects, given to one of them"]
    before = {k: np.array([np.frombuffer(m, bool) for _, m in v]) for k, v in masks_by_name(truth).items() if v}
    after = {
        k: np.array([np.frombuffer(m, bool) for _, m in v])
        for k, v in masks_by_name(truth.parent / "back.json").items()
        if v
    }
    for key, masks in before.items():
        assert (after[key].any(axis=0) == masks.any(axis=0)).all()
        assert after[key].sum(axis=0).max() == 1
    assert lost == sum(int(before[k].sum() - after[k].sum()) for k in before) > 0
    picture = Image.open(truth.parent / "t" / "sub" / "many.png")
    assert picture.mode == "P"
    assert picture.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_the_palette_is_voc_s():
    assert voc_palette()[[1, 2, 3, 4, 8, 15, 255]].tolist() == [
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [64, 0, 0],
        [192, 128, 128],
        [224, 224, 192],
    ]


def test_more_objects_than_a_palette_has(tmp_path):
    annotations, mask = [], np.zeros((20, 20), bool)
    for k in range(300):
        mask[:] = False
        mask[divmod(k, 20)] = True
        annotations.append({"id": k, "image_id": 1, "category_id": 1, "segmentation": mask_to_rle(mask)})
    content = {"images": [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 20}], "annotations": annotations}
    (tmp_path / "gt.json").write_text(json.dumps({**content, "categories": [{"id": 1, "name": "x"}]}))
    convert(tmp_path / "gt.json", tmp_path / "t", to="png")
    assert np.asarray(Image.open(tmp_path / "t" / "a.png")).max() == 300
    convert(tmp_path / "t", tmp_path / "back.json", to="coco")
    assert masks_by_name(tmp_path / "back.json") == masks_by_name(tmp_path / "gt.json")


def test_label_maps_without_an_index(tmp_path):
    """As Penn-Fudan and VOC's SegmentationObject have them."""
    (tmp_path / "m").mkdir()
    pixels = np.zeros((6, 8), np.uint8)
    pixels[1:3, 1:4], pixels[4:, 5:], pixels[0, 0] = 1, 2, 255
    picture = Image.fromarray(pixels)
    picture.putpalette(voc_palette().tobytes())
    picture.save(tmp_path / "m" / "a.png")
    assert convert(tmp_path / "m", tmp_path / "c.json", to="coco")[:2] == (1, 2)
    dataset = CocoDataset.from_file(tmp_path / "c.json")
    assert dict(dataset.categories) == {1: "object"}
    assert [r["area"] for r in dataset.annotations[1]] == [6, 6]
    Image.new("RGB", (8, 6)).save(tmp_path / "m" / "b.png")
    with pytest.raises(CrispmaskError, match=r"b\.png has colours in place of numbers"):
        convert(tmp_path / "m", tmp_path / "c.json", to="coco")


@pytest.mark.parametrize("content", ["{}", '{"images": [3], "categories": []}', '{"images": 3, "categories": []}', "["])
def test_an_index_that_is_none(tmp_path, content):
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(DataError, match=r"labels\.json"):
        convert(tmp_path, tmp_path / "c.json", to="coco", source_format="png")


@pytest.mark.parametrize("name", ["yolo", "labelme", "png"])
def test_folders_are_complete_or_not_there(truth, images, name):
    target = truth.parent / "t"
    content = json.loads(truth.read_text())
    content["images"][-1]["file_name"] = "../../evil.jpg"
    truth.write_text(json.dumps(content))
    before = sorted(truth.parent.rglob("*"))
    with pytest.raises(DataError, match="leads out of its folder"):
        convert(truth, target, to=name)
    content["images"][-1]["file_name"] = "sub/many.png"
    truth.write_text(json.dumps(content))
    with pytest.raises(DataError, match="would both be written as sub/many"):
        convert(truth, target, to=name)
    assert sorted(truth.parent.rglob("*")) == before
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        convert(truth, target, to=name)
    assert [p.name for p in target.iterdir()] == ["mine.txt"]


def test_what_is_no_label(tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1}')
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "x.json", tmp_path / "empty"):
        with pytest.raises(DataError, match="no known format"):
            convert(path, tmp_path / "out.json", to="coco")
    with pytest.raises(DataError, match="cannot read"):
        convert(tmp_path / "gone", tmp_path / "out.json", to="coco")
    with pytest.raises(DataError, match="unknown format 'voc'"):
        convert(tmp_path / "x.json", tmp_path / "out", to="voc")
