"""Pairs of detections and annotated objects."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crispmask.coco import CocoDataset, mask_to_rle, results_to_instances
from crispmask.errors import DataError
from crispmask.evaluation.matching import match_instances, match_results
from crispmask.instances import Instances

SIZE = (40, 50)


def square(y: int, x: int, side: int = 10) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def record(mask: np.ndarray, category: int = 1, score: float | None = None, image: int = 1, **more) -> dict:
    made = {"image_id": image, "category_id": category, "segmentation": mask_to_rle(mask), **more}
    return made if score is None else {**made, "score": score}


@pytest.fixture
def dataset(tmp_path) -> CocoDataset:
    """Two squares and a crowd of category 1, one square of category 2."""
    annotations = [
        record(square(0, 0), id=1),
        record(square(20, 20), id=2),
        record(square(0, 30), 2, id=3),
        record(square(25, 0), id=4, iscrowd=1),
    ]
    path = tmp_path / "truth.json"
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    path.write_text(json.dumps(content))
    return CocoDataset.from_file(path)


def pairs(dataset: CocoDataset, results: list, **options) -> list[tuple[int, int]]:
    return [(m.result, m.annotation) for m in match_results(dataset, results, **options)]


def test_the_detection_with_the_higher_score_matches_and_the_other_does_not(dataset):
    results = [record(square(0, 0), score=0.5), record(square(1, 0), score=0.9), record(square(20, 21), score=0.1)]
    assert pairs(dataset, results) == [(1, 0), (2, 1)]


def test_categories_crowds_and_low_scores_do_not_match(dataset):
    results = [record(square(0, 30), 1, 0.9), record(square(25, 0), 1, 0.9), record(square(0, 30), 2, 0.2)]
    assert pairs(dataset, results) == [(2, 2)]
    assert pairs(dataset, results, min_score=0.3) == []


def test_min_iou_decides(dataset):
    results = [record(square(0, 4), score=0.9)]  # IoU 60 / 140
    assert pairs(dataset, results) == []
    (found,) = match_results(dataset, results, min_iou=0.4)
    assert found.iou == pytest.approx(60 / 140)


def test_an_object_that_touches_nothing_never_matches(dataset):
    assert pairs(dataset, [record(square(10, 40), score=1.0)], min_iou=0.0) == []


def test_an_unknown_image_is_named(dataset):
    with pytest.raises(DataError, match=r"result 0.*no image with the id 7"):
        match_results(dataset, [record(square(0, 0), score=0.9, image=7)])


def test_instances_match_as_their_records_do(dataset):
    """Three detections of one object, one of another category, one of nothing; the order is that of the scores."""
    records = [
        record(square(0, 1), score=0.5),
        record(square(1, 0), score=0.9),
        record(square(20, 21), score=0.7),
        record(square(0, 30), 2, 0.6),
        record(square(0, 30), 1, 0.95),
        record(square(12, 12), score=0.99),
    ]
    expected = sorted((-records[k]["score"], k, j) for k, j in pairs(dataset, records))
    found = results_to_instances(records, *SIZE)
    assert match_instances(found, dataset.instances(1)) == [(k, j) for _, k, j in expected] == [(1, 0), (2, 1), (3, 2)]
    assert match_instances(found, Instances.empty(SIZE)) == match_instances(Instances.empty(SIZE), found) == []
