from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from crispmask.coco import CocoDataset, mask_to_rle
from crispmask.errors import DataError


def content() -> dict:
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "height": 20, "width": 30},
            {"id": 3, "file_name": "a.jpg", "height": 10, "width": 12},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 18,
                "segmentation": [[2, 2, 6, 2, 6, 6, 2, 6], [10, 10, 14, 10, 14, 12, 10, 12]],
                "bbox": [2.0, 2.0, 12.0, 10.0],
                "area": 24.0,
                "iscrowd": 0,
            },
            {"id": 2, "image_id": 7, "category_id": 1, "segmentation": mask_to_rle(np.ones((20, 30), bool))},
            {
                "id": 3,
                "image_id": 7,
                "category_id": 1,
                "segmentation": {"size": [20, 30], "counts": [0, 100, 500]},
                "iscrowd": 1,
            },
        ],
    }


def written(path, data) -> str:
    path.write_text(json.dumps(data))
    return path


def test_reading(tmp_path):
    data = CocoDataset.from_file(written(tmp_path / "a.json", content()))
    assert list(data.images) == [3, 7]
    assert data.image(7) is data.image("b.jpg")
    assert data.image("a.jpg").size == (10, 12)
    assert dict(data.categories) == {1: "person", 18: "dog"}
    assert [len(data.annotations[key]) for key in (3, 7)] == [0, 3]


def test_gzip_whatever_the_name(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(gzip.compress(json.dumps(content()).encode()))
    assert list(CocoDataset.from_file(path).images) == [3, 7]


def test_instances(tmp_path):
    data = CocoDataset.from_file(written(tmp_path / "a.json", content()))
    instances = data.instances(7)
    assert instances.image_size == (20, 30)
    assert instances.category_ids.tolist() == [18, 1]
    assert instances.boxes.tolist() == [[2, 2, 14, 12], [0, 0, 30, 20]]
    assert instances.mask(0).sum() == 16 + 8
    assert instances.mask(1).all()
    assert len(data.instances("b.jpg", crowds=True)) == 3
    assert data.instances("b.jpg", crowds=True).mask(2).sum() == 100
    assert len(data.instances("a.jpg")) == 0
    assert data.instances("a.jpg").image_size == (10, 12)


def changed(key, k, **values) -> dict:
    data = content()
    data[key][k].update(values)
    return data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "not an object"),
        ({"images": []}, "'categories' must be a list"),
        ({**content(), "images": 3}, "'images' must be a list"),
        ({**content(), "annotations": [4]}, r"annotations\[0\] must be an object"),
        (changed("images", 1, height=0), r"images\[1\] \(id 3\): 'height' must be at least 1"),
        (changed("images", 1, width="9"), "'width' must be a whole number"),
        (changed("images", 1, height=10**12), "limit of 160 megapixels: scale it and its annotations down"),
        # The boundary metric took 3.9 GB of it.
        (changed("images", 1, height=160_000_000, width=1), "a side longer than the limit of 1000000 pixels"),
        (changed("images", 1, height=10**40), "'height' must be a whole number"),
        (changed("images", 1, file_name=None), "'file_name'"),
        (changed("images", 1, id=7), "used twice"),
        (changed("images", 1, id=True), "whole number"),
        (changed("categories", 1, id=1), "used twice"),
        (changed("annotations", 1, id=1), r"annotations\[1\] \(id 1\): the annotation id is used twice"),
        (changed("annotations", 1, image_id=99), r"annotations\[1\] \(id 2\): there is no image with the id 99"),
        (changed("annotations", 1, category_id=99), "no category with the id 99"),
        (changed("annotations", 0, bbox=[1, 2, 3]), "x, y, width, height"),
        (changed("annotations", 0, bbox=[1, 2, -3, 4]), "negative"),
        (changed("annotations", 0, bbox=[1, 2, float("nan"), 4]), "finite"),
        (changed("annotations", 0, area="big"), "'area'"),
        (changed("annotations", 0, area=10**400), "'area'"),
        (changed("annotations", 0, bbox=[1, 2, True, 4]), "finite"),
    ],
)
def test_broken_files(tmp_path, data, words):
    with pytest.raises(DataError, match=words) as caught:
        CocoDataset.from_file(written(tmp_path / "broken.json", data))
    assert "broken.json" in str(caught.value)


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [(None, "RLE or a list"), ([], "empty"), ([[1, 2, 3, 4]], "at least 3"), ({"size": [1, 1], "counts": [1]}, "size")],
)
def test_broken_segmentations_are_named_when_asked_for(tmp_path, segmentation, words):
    path = written(tmp_path / "broken.json", changed("annotations", 0, segmentation=segmentation))
    data = CocoDataset.from_file(path)
    with pytest.raises(DataError, match=words) as caught:
        data.instances(7)
    assert "broken.json: annotation 1 of b.jpg" in str(caught.value)


def test_unknown_image(tmp_path):
    data = CocoDataset.from_file(written(tmp_path / "a.json", content()))
    for key in (8, "c.jpg"):
        with pytest.raises(DataError, match="has no image"):
            data.instances(key)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{", "not valid JSON"),
        (b"\x1f\x8b\x08", "gzip|read"),
    ],
)
def test_no_json(tmp_path, raw, words):
    (tmp_path / "broken.json").write_bytes(raw)
    with pytest.raises(DataError, match=words):
        CocoDataset.from_file(tmp_path / "broken.json")


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DataError, match="cannot read"):
            CocoDataset.from_file(path)


def test_real_annotations_equal_pycocotools(shared_data):
    path = shared_data / "coco" / "annotations" / "instances_val2017.json"
    data, reference = CocoDataset.from_file(path), COCO(path)
    for image_id in list(data.images)[:40]:
        annotations = reference.loadAnns(reference.getAnnIds(image_id))
        instances = data.instances(image_id, crowds=True)
        assert len(instances) == len(annotations)
        for i, annotation in enumerate(annotations):
            assert (instances.mask(i) == reference.annToMask(annotation).astype(bool)).all()
