from __future__ import annotations

import json

import pytest

from crispmask.coco import CocoDataset
from crispmask.errors import DataError
from crispmask.pipeline.plan import Categories, Plan


@pytest.fixture
def dataset(tmp_path) -> CocoDataset:
    images = [{"id": k, "file_name": f"{k}.jpg", "height": 4, "width": 5} for k in (7, 8)]
    categories = [{"id": 3, "name": "person"}, {"id": 5, "name": "dog"}]
    (tmp_path / "gt.json").write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    return CocoDataset.from_file(tmp_path / "gt.json")


def test_images_are_numbered_without_annotations():
    plan = Plan.make({"a.jpg": "/x/a.jpg", "b.jpg": "s3://x/b.jpg"}, [], None)
    assert [(image.uri, image.image_id, image.size) for image in plan.images.values()] == [
        ("/x/a.jpg", 1, None),
        ("s3://x/b.jpg", 2, None),
    ]
    assert (plan.unnamed, plan.missing, plan.unread) == (0, 0, ())


def test_annotations_give_ids_and_sizes_and_what_is_missing(dataset):
    plan = Plan.make({"7.jpg": "/x/7.jpg", "c.jpg": "/x/c.jpg"}, [], dataset)
    assert list(plan.images) == ["7.jpg"]
    assert (plan.images["7.jpg"].image_id, plan.images["7.jpg"].size) == (7, (4, 5))
    assert (plan.unnamed, plan.missing) == (1, 1)


def test_categories_are_matched_by_name(dataset):
    own = Categories.make({1: "person", 2: "cat"}, None)
    assert (own.ids, own.left_out) == ({1: 1, 2: 2}, ())
    matched = Categories.make({1: "person", 2: "cat"}, dataset)
    assert (matched.ids, matched.left_out) == ({1: 3}, ("cat",))
    assert matched.records == [{"id": 3, "name": "person"}, {"id": 5, "name": "dog"}]
    with pytest.raises(DataError, match=r"none of the detector's categories \(cat\)"):
        Categories.make({2: "cat"}, dataset)
