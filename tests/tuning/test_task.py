from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from crispmask.coco import CocoDataset, instances_to_results, read_results, results_to_instances
from crispmask.errors import DataError, ParamsError
from crispmask.evaluation import average_precision
from crispmask.evaluation.matching import match_results
from crispmask.evaluation.overlap import overlaps
from crispmask.image import read_image
from crispmask.params import CRFParams
from crispmask.refinement import refine
from crispmask.tuning.task import TuningTask

SETTINGS = [None, CRFParams(iterations=2), CRFParams(iterations=2, theta_beta=20, bilateral_weight=5)]


def refined_results(discs, params) -> list[dict]:
    """Every detection refined, one call per image."""
    dataset, found = CocoDataset.from_file(discs.annotations), []
    records = read_results(discs.results)
    for key, info in dataset.images.items():
        chosen = [record for record in records if record["image_id"] == key]
        before = results_to_instances(chosen, *info.size)
        image = read_image(discs.images / info.file_name)
        found += instances_to_results(before if params is None else refine(image, before, params), key)
    return found


@pytest.mark.parametrize("objective", ["ap", "boundary-ap"])
def test_average_precision_is_that_of_evaluate(discs, objective):
    task = discs.task(objective=objective, folds=3)
    kind = "segm" if objective == "ap" else "boundary"
    for params, scores in zip(SETTINGS, task.measure(SETTINGS), strict=True):
        results = refined_results(discs, params)
        assert scores.all == average_precision(discs.annotations, results, kind)["AP"]
        for fold, fitted, held_out in zip(task.folds, scores.fitted, scores.held_out, strict=True):
            others = set(task.image_ids) - set(fold)
            assert held_out == average_precision(discs.annotations, results, kind, image_ids=fold)["AP"]
            assert fitted == average_precision(discs.annotations, results, kind, image_ids=others)["AP"]


@pytest.mark.parametrize("objective", ["iou", "boundary-iou"])
def test_mean_overlaps_are_with_the_objects_matched_before_refinement(discs, objective):
    dataset, records = CocoDataset.from_file(discs.annotations), read_results(discs.results)
    task = discs.task(objective=objective, folds=2)
    matches = match_results(dataset, records)
    for params, scores in zip(SETTINGS, task.measure(SETTINGS), strict=True):
        results = refined_results(discs, params)
        values = {}
        for match in matches:
            truth = dataset.annotations[match.image_id][match.annotation]["segmentation"]
            found = overlaps(results[match.result]["segmentation"], truth, *dataset.images[match.image_id].size)
            values.setdefault(match.image_id, []).append(found[objective == "boundary-iou"])
        assert scores.all == pytest.approx(np.mean([value for found in values.values() for value in found]))
        for fold, held_out in zip(task.folds, scores.held_out, strict=True):
            assert held_out == pytest.approx(np.mean([value for key in fold for value in values[key]]))


def test_refinement_helps_on_the_discs(discs):
    before, after = discs.task(objective="iou").measure([None, CRFParams()])
    assert after.all > before.all + 0.01


def test_folds_are_a_balanced_partition_of_the_images(discs):
    task = discs.task(objective="iou", folds=3)
    assert sorted(key for fold in task.folds for key in fold) == list(task.image_ids) == [1, 2, 3, 4, 5, 6]
    assert [sum(1 + key % 2 for key in fold) for fold in task.folds] == [3, 3, 3]
    assert task.matches == 9
    assert discs.task(objective="iou", folds=3).folds == task.folds
    assert any(discs.task(objective="iou", folds=3, seed=seed).folds != task.folds for seed in range(1, 5))


def test_limit_draws_images(discs):
    task = discs.task(folds=2, limit=4)
    assert len(task.image_ids) == 4
    assert set(task.image_ids) < {1, 2, 3, 4, 5, 6}


def test_same_scores_for_any_number_of_threads(discs):
    task = discs.task(objective="boundary-iou", folds=2)
    assert task.measure(SETTINGS, threads=1) == task.measure(SETTINGS, threads=4)


def test_low_scores_are_left_out(discs):
    everything, sure = (discs.task(objective="ap", folds=2, score=score).measure([None])[0].all for score in (0, 0.5))
    assert sure < everything


def changed(discs, tmp_path, change, objective="iou") -> TuningTask:
    """A task whose results, or annotations, were changed in place."""
    truth, results = (json.loads(path.read_text()) for path in (discs.annotations, discs.results))
    change(truth, results)
    paths = tmp_path / "truth.json", tmp_path / "results.json"
    for path, content in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(content))
    return dataclasses.replace(discs, annotations=paths[0], results=paths[1]).task(objective=objective, folds=2)


def test_categories_that_no_detection_has_do_not_count(discs, tmp_path):
    def add_squares(truth, results) -> None:
        truth["categories"].append({"id": 2, "name": "square"})
        square = {**truth["annotations"][0], "id": 99, "category_id": 2}
        truth["annotations"].append(square)

    [with_squares] = changed(discs, tmp_path, add_squares, objective="ap").measure([None])
    assert with_squares.all == average_precision(discs.annotations, discs.results)["AP"]
    assert average_precision(tmp_path / "truth.json", discs.results)["AP"] == with_squares.all / 2


def test_refusals(discs, tmp_path):
    with pytest.raises(ParamsError, match="7 folds are more than the 6 images"):
        discs.task(folds=7)
    with pytest.raises(ParamsError, match="folds must be at least 2"):
        discs.task(folds=1)
    with pytest.raises(ParamsError, match="objective must be one of ap, boundary-ap, iou"):
        discs.task(objective="f1")
    with pytest.raises(DataError, match="none of the 0 detections in results matches an annotated object"):
        changed(discs, tmp_path, lambda truth, results: results.clear())
    with pytest.raises(DataError, match=r"result 3: .*no image with the id 77"):
        changed(discs, tmp_path, lambda truth, results: results[3].update(image_id=77))
    with pytest.raises(DataError, match="result 2: the RLE has size"):
        changed(discs, tmp_path, lambda truth, results: results[2].update(segmentation={"size": [1, 1], "counts": [1]}))
    with pytest.raises(DataError, match=r"the file name .* leads out of its folder"):
        changed(discs, tmp_path, lambda truth, results: truth["images"][0].update(file_name="../1.png"))


def test_photos_that_are_missing_or_of_another_size_are_named(discs, tmp_path):
    task = changed(discs, tmp_path, lambda truth, results: truth["images"][2].update(file_name="gone.png"))
    with pytest.raises(Exception, match=r"no image .*gone.png"):
        task.measure([None])
    from PIL import Image

    other = tmp_path / "images"
    other.mkdir()
    for path in discs.images.iterdir():
        Image.open(path).resize((32, 24)).save(other / path.name)
    with pytest.raises(DataError, match=r"1.png has 32x24 pixels .* the annotation file says 64x48"):
        dataclasses.replace(discs, images=other).task(folds=2).measure([None])
