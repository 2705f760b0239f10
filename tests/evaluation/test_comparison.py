"""Several results side by side: pairs of instances, changes, categories."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crispmask.coco import CocoDataset, mask_to_rle
from crispmask.errors import DataError, ParamsError
from crispmask.evaluation import average_precision
from crispmask.evaluation.bootstrap import Interval
from crispmask.evaluation.comparison import KINDS, Value, compare
from crispmask.evaluation.matching import match_results
from crispmask.evaluation.overlap import overlaps


@pytest.fixture
def sides(synthetic) -> tuple[CocoDataset, list[dict], list[dict]]:
    """A data set, results, and the same detections with masks moved by a pixel."""
    path, results = synthetic(21)
    moved = [{**record, "segmentation": shifted(record["segmentation"])} for record in results]
    return CocoDataset.from_file(path), results, moved


def shifted(rle: dict) -> dict:
    from crispmask.coco import segmentation_to_mask

    return mask_to_rle(np.roll(segmentation_to_mask(rle, *rle["size"]), 1, axis=0))


def test_metrics_are_those_of_average_precision(sides):
    dataset, before, after = sides
    found = compare(dataset, {"a": before, "b": after})
    for name, records in (("a", before), ("b", after)):
        for kind in ("segm", "boundary", "bbox"):
            expected = average_precision(dataset, records, kind)
            assert {k: v.value for k, v in found.overall[name][kind].items()} == pytest.approx(expected, nan_ok=True)
    change = found.overall["b"]["segm"]["AP"].change
    assert change == pytest.approx(average_precision(dataset, after)["AP"] - average_precision(dataset, before)["AP"])
    assert change != 0
    assert found.overall["a"]["segm"]["AP"].change is None
    assert {kind: tuple(v) for kind, v in found.overall["a"].items()} == KINDS


def test_pairs_are_the_matches_of_the_first(sides):
    dataset, before, after = sides
    found = compare(dataset, {"a": before, "b": after})
    matches = match_results(dataset, before)
    keys = set(zip(found.pairs.image_id, found.pairs.annotation, found.pairs.record[:, 0], strict=True))
    assert keys == {(m.image_id, m.annotation, m.result) for m in matches}
    assert len(keys) > 5
    assert (found.pairs.record[:, 0] == found.pairs.record[:, 1]).all()
    for k in range(len(found.pairs)):
        image = int(found.pairs.image_id[k])
        truth = dataset.annotations[image][found.pairs.annotation[k]]
        assert found.pairs.category_id[k] == truth["category_id"]
        for r, records in enumerate((before, after)):
            own = records[found.pairs.record[k, r]]["segmentation"]
            expected = overlaps(own, truth["segmentation"], *dataset.images[image].size)
            assert (found.pairs.iou[k, r], found.pairs.boundary_iou[k, r]) == pytest.approx(expected)
    mean = found.overall["b"]["matched"]["IoU"]
    assert mean.value == pytest.approx(found.pairs.iou[:, 1].mean())
    assert mean.change == pytest.approx((found.pairs.iou[:, 1] - found.pairs.iou[:, 0]).mean())


def test_other_detections_are_paired_by_the_object(sides):
    """In another order, and with some missing: paired through the objects, over those that both find."""
    dataset, before, after = sides
    other = after[::-1][: len(after) - 4]
    found = compare(dataset, {"a": before, "b": other}).pairs
    mine = {(m.image_id, m.annotation): m for m in match_results(dataset, before)}
    theirs = {(m.image_id, m.annotation): m for m in match_results(dataset, other)}
    both = mine.keys() & theirs.keys()
    assert 0 < len(both) < len(mine)
    assert {(int(i), int(t)) for i, t in zip(found.image_id, found.annotation, strict=True)} == both
    for k in range(len(found)):
        key = int(found.image_id[k]), int(found.annotation[k])
        assert found.record[k].tolist() == [mine[key].result, theirs[key].result]
        assert found.iou[k].tolist() == pytest.approx([mine[key].iou, theirs[key].iou])


def test_categories(sides):
    dataset, before, after = sides
    found = compare(dataset, {"a": before, "b": after}, resamples=20, all_categories=True)
    for key in dataset.categories:
        expected = average_precision(dataset, before, category_ids=[key])
        values = {k: v.value for k, v in found.by_category[key]["a"]["segm"].items()}
        assert values == pytest.approx(expected, nan_ok=True)
        own = found.pairs.category_id == key
        if own.any():
            assert found.by_category[key]["a"]["matched"]["IoU"].value == pytest.approx(found.pairs.iou[own, 0].mean())
    assert found.objects[9] == 0
    alone = compare(dataset, {"a": before, "b": after}, category_ids=[3], resamples=20)
    assert alone.by_category[3]["b"]["segm"] == found.by_category[3]["b"]["segm"]
    assert list(alone.objects) == [3]


def test_intervals(sides):
    dataset, before, after = sides
    found = compare(dataset, {"a": before, "same": before, "b": after}, resamples=200, seed=4)
    for values in found.overall["same"].values():
        for value in values.values():
            assert value.change == 0
            assert (value.interval.low, value.interval.high) == (0, 0)
    value = found.overall["b"]["segm"]["AP"]
    assert value.interval.low < value.change < value.interval.high
    again = compare(dataset, {"a": before, "b": after}, resamples=200, seed=4)
    assert again.overall["b"] == found.overall["b"]
    other = compare(dataset, {"a": before, "b": after}, resamples=200, seed=5)
    assert other.overall["b"]["segm"]["AP"].interval != value.interval


def test_results_without_boxes_are_compared_without(sides):
    dataset, before, after = sides
    bare = [{k: v for k, v in record.items() if k != "bbox"} for record in after]
    assert compare(dataset, {"a": before, "b": bare}).kinds == ["segm", "boundary", "matched"]
    with pytest.raises(DataError, match="b: result 1 has no 'bbox'"):
        compare(dataset, {"a": before, "b": [after[0], bare[1], *after[2:]]})


def test_nothing_found(sides):
    dataset, before, _ = sides
    found = compare(dataset, {"none": [], "a": before}, resamples=5)
    assert len(found.pairs) == 0
    assert np.isnan(found.overall["a"]["matched"]["IoU"].value)
    assert found.overall["none"]["segm"]["AP"].value == 0


def test_categories_of_one_name_are_told_apart(tmp_path):
    content = {"images": [], "annotations": [], "categories": [{"id": k, "name": "x"} for k in (4, 7)]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = compare(CocoDataset.from_file(tmp_path / "a.json"), {"a": []}, resamples=3)
    assert found.labels == {4: "x (4)", 7: "x (7)"}


def test_categories_without_detections_are_left_out(sides):
    dataset, before, after = sides
    some = [[record for record in records if record["category_id"] in (1, 7)] for records in (before, after)]
    some[1] = [record for record in some[1] if record["category_id"] == 1]  # one result is enough to be measured
    found = compare(dataset, {"a": some[0], "b": some[1]})
    assert found.left_out == {3: "car"}
    assert list(found.by_category) == [1, 7]
    for name, records in zip("ab", some, strict=True):
        expected = average_precision(dataset, records, category_ids=[1, 7])["AP"]
        assert found.overall[name]["segm"]["AP"].value == expected
    assert "1 category is left out, since no result has a detection there: car." in found.notes
    everything = compare(dataset, {"a": some[0], "b": some[1]}, all_categories=True)
    assert everything.overall["a"]["segm"]["AP"].value == average_precision(dataset, some[0])["AP"]
    assert everything.left_out == {}
    assert list(everything.by_category) == [1, 3, 7, 9]
    chosen = compare(dataset, {"a": some[0]}, category_ids=[3])
    assert chosen.overall["a"]["segm"]["AP"].value == 0
    assert chosen.left_out == {}


def test_without_any_detection_all_categories_are_measured(sides):
    dataset, *_ = sides
    found = compare(dataset, {"none": []})
    assert list(found.by_category) == list(dataset.categories)
    assert found.left_out == {}


def test_a_change_that_is_shown_as_zero_is_not_significant():
    certain = Interval(0.0001, 0.0004)
    assert not Value(0.5, 0.0002, certain).significant
    assert Value(0.5, 0.002, Interval(0.001, 0.004)).significant
    assert not Value(0.5, 0.002, Interval(-0.001, 0.004)).significant
    assert not Value(0.5, 0.002).significant
    assert not Value(0.5).significant


def test_refusals(sides):
    dataset, before, _ = sides
    with pytest.raises(ParamsError, match="nothing to compare"):
        compare(dataset, {})
    with pytest.raises(ParamsError, match="the number of resamples must be at least 0"):
        compare(dataset, {"a": before}, resamples=-1)
    with pytest.raises(DataError, match="no category"):
        compare(dataset, {"a": before}, category_ids=[500])
