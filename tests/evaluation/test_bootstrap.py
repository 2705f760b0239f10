"""Resampled images: weighing them must equal copying them."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

from crispmask.coco import CocoDataset
from crispmask.evaluation import average_precision
from crispmask.evaluation.bootstrap import Interval, draws, interval, intervals, resampled, weighted_means
from crispmask.evaluation.columns import annotation_columns, detection_columns
from crispmask.evaluation.metrics import METRICS, MatchedDetections, match_detections, overall


def matched_with(dataset: CocoDataset, results: list, kind: str = "segm") -> MatchedDetections:
    categories, images = list(dataset.categories), list(dataset.images)
    options = {"masks": kind != "bbox", "boxes": kind == "bbox"}
    truth = annotation_columns(dataset, categories, images, **options)
    found = detection_columns(dataset, results, categories, images, "results", **options)
    return match_detections(truth, found, kind, categories, len(images))


def copied(content: dict, results: list, weights: np.ndarray) -> tuple[dict, list]:
    """The data set and results with each image as often as its weight, the copies under ids that follow one another."""
    ids = sorted(image["id"] for image in content["images"])
    images, annotations, detections = [], [], []
    for key, weight in zip(ids, weights, strict=True):
        for copy in range(weight):
            new = 1000 * key + copy
            images.append({"id": new, "file_name": f"{new}.jpg", "height": 120, "width": 130})
            annotations += [{**a, "image_id": new} for a in content["annotations"] if a["image_id"] == key]
            detections += [{**r, "image_id": new} for r in results if r["image_id"] == key]
    annotations = [{**a, "id": k} for k, a in enumerate(annotations, start=1)]
    return {**content, "images": images, "annotations": annotations}, detections


@pytest.mark.parametrize("kind", ["segm", "boundary", "bbox"])
def test_weights_equal_copies(cheap, tmp_path, kind):
    """Also between equal scores, where the order of the copies decides: the sets have three scores only."""
    tried = 0
    for seed in range(12):
        content, results = cheap(seed)
        path = tmp_path / f"{seed}.json"
        path.write_text(json.dumps(content))
        weights = draws(4, 4, seed)
        counted = overall(matched_with(CocoDataset.from_file(path), results, kind).measure(weights))
        for row, values in zip(weights, counted, strict=True):
            twice, more = copied(content, results, row)
            path.write_text(json.dumps(twice))
            expected = list(average_precision(path, more, kind).values())
            assert np.allclose(values, expected, rtol=0, atol=1e-12, equal_nan=True), (seed, row)
            tried += int(0 < values[0] < 1)
    assert tried > 10


def test_every_image_once_is_average_precision(synthetic):
    path, results = synthetic(1)
    matched = matched_with(CocoDataset.from_file(path), results)
    expected = average_precision(path, results)
    assert matched.metrics == expected
    assert overall(matched.measure(np.ones((1, 8), int)))[0].tolist() == list(expected.values())
    for key, metrics in matched.by_category.items():
        alone = average_precision(path, results, category_ids=[key])
        assert metrics == pytest.approx(alone, nan_ok=True)
        assert tuple(metrics) == METRICS


def test_draws_are_of_all_images_and_by_seed():
    first = draws(30, 50, 7)
    assert first.shape == (50, 30)
    assert (first.sum(axis=1) == 30).all()
    assert (draws(30, 50, 7) == first).all()
    assert (draws(30, 50, 8) != first).any()
    assert draws(30, 4000).mean(axis=0) == pytest.approx(1, abs=0.1)


def test_threads_change_nothing(synthetic):
    path, results = synthetic(2)
    matched = matched_with(CocoDataset.from_file(path), results)
    weights = draws(8, 70, 3)
    assert np.array_equal(resampled(matched, weights), matched.measure(weights), equal_nan=True)
    assert resampled(matched, weights[:0]).shape == (0, 4, 6)


def test_interval_is_the_middle_95_percent():
    found = interval(np.array([*np.arange(1001) / 1000, np.nan]))
    assert (found.low, found.high) == pytest.approx((0.025, 0.975))
    assert found.excludes_zero
    assert not Interval(-0.1, 0.2).excludes_zero
    assert Interval(-0.2, -0.1).excludes_zero
    assert not Interval(0.0, 0.1).excludes_zero
    nothing = interval(np.full(3, np.nan))
    assert np.isnan(nothing.low)
    assert not nothing.excludes_zero
    (span,) = intervals(np.zeros((5, 1)), np.ones((5, 1)))
    assert span == Interval(1.0, 1.0)


def test_weighted_means_count_copies():
    values, image = np.array([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]]), np.array([0, 0, 2])
    means = weighted_means(values, image, np.array([[1, 5, 1], [2, 0, 1], [0, 3, 0]]))
    assert means[0] == pytest.approx([3, 30])
    assert means[1] == pytest.approx([12 / 5, 24])
    assert np.isnan(means[2]).all()


def test_the_interval_covers_a_known_difference():
    """Means of 200 normal numbers: the bootstrap's width is that of the textbook, 1.96 sigma / sqrt(n)."""
    random = np.random.default_rng(0)
    values = random.normal(0.3, 1, (200, 1))
    drawn = weighted_means(values, np.arange(200), draws(200, 3000, 1))
    span = interval(drawn[:, 0])
    assert span.high - span.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.06)


def test_memory_of_many_images():
    """200 000 images took 3.4 GB."""
    tracemalloc.start()
    try:
        weights = draws(20_000, 500)
        values = np.random.default_rng(0).random((20_000, 2))
        means = weighted_means(values, np.arange(20_000), weights)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30e6
    assert means == pytest.approx(weights.astype(np.float64) @ values / 20_000)
    assert (weights.sum(axis=1) == 20_000).all()
