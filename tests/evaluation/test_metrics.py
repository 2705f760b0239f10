from __future__ import annotations

import copy
import json

import faster_coco_eval
import numpy as np
import pytest
from faster_coco_eval.core import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from crispmask.coco import (
    CocoDataset,
    mask_to_rle,
    read_results,
    segmentation_to_mask,
    segmentation_to_rle,
    write_results,
)
from crispmask.errors import DataError, ParamsError
from crispmask.evaluation import average_precision
from crispmask.evaluation.overlap import mask_overlaps

NAMES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")


def pycocotools(path, results, iou_type, category_ids=None, image_ids=None) -> dict[str, float]:
    truth = COCO(path)
    results = copy.deepcopy(results)
    if iou_type == "segm":
        for record in results:
            del record["bbox"]  # so that a detection's size is that of its mask
    run = COCOeval(truth, truth.loadRes(results), iou_type)
    run.params.catIds = category_ids or run.params.catIds
    run.params.imgIds = image_ids or run.params.imgIds
    run.evaluate()
    run.accumulate()
    run.summarize()
    return dict(zip(NAMES, (v if v > -1 else np.nan for v in run.stats[:6]), strict=True))


def same(ours, theirs) -> bool:
    return list(ours) == list(theirs) and np.allclose(
        list(ours.values()), list(theirs.values()), rtol=0, atol=1e-10, equal_nan=True
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_equals_pycocotools(synthetic, seed, iou_type):
    path, results = synthetic(seed)
    ours = average_precision(path, results, iou_type)
    assert same(ours, pycocotools(path, results, iou_type))
    assert 0 < ours["AP"] < 1


def quick(content, results, iou_type) -> dict[str, float]:
    """pycocotools, or for boundaries faster-coco-eval, without files."""
    if iou_type == "boundary":
        truth, found = (faster_coco_eval.COCO(copy.deepcopy(content)) for _ in range(2))
        found.dataset["annotations"] = [
            {**r, "id": k, "iscrowd": 0, "area": float(mask_api.area(r["segmentation"]))}
            for k, r in enumerate(copy.deepcopy(results), start=1)
        ]
        found.createIndex()
        run = faster_coco_eval.COCOeval_faster(truth, found, "boundary")
    else:
        truth, found = COCO(), COCO()
        truth.dataset = copy.deepcopy(content)
        found.dataset = {**copy.deepcopy(content), "annotations": []}
        for k, record in enumerate(copy.deepcopy(results), start=1):
            _, _, w, h = record["bbox"]
            area = w * h if iou_type == "bbox" else float(mask_api.area(record["segmentation"]))
            found.dataset["annotations"].append({**record, "id": k, "iscrowd": 0, "area": area})
        truth.createIndex()
        found.createIndex()
        run = COCOeval(truth, found, iou_type)
        run.params.maxDets = [100]
    run.evaluate()
    run.accumulate()
    precision = run.eval["precision"][..., -1]
    parts = (precision[..., 0], precision[0, ..., 0], precision[5, ..., 0], *(precision[..., a] for a in (1, 2, 3)))
    return dict(zip(NAMES, (p[p > -1].mean() if (p > -1).any() else np.nan for p in parts), strict=True))


@pytest.mark.parametrize("block", range(10))
def test_equals_the_peers_on_200_hard_little_sets(cheap, tmp_path, block):
    different = set()
    for seed in range(20 * block, 20 * block + 20):
        content, results = cheap(seed)
        path = tmp_path / f"{seed}.json"
        path.write_text(json.dumps(content))
        dataset = CocoDataset.from_file(path)
        for iou_type in ("segm", "bbox", "boundary")[: 2 if seed % 4 else 3]:
            ours = average_precision(dataset, results, iou_type)
            assert same(ours, quick(content, results, iou_type)), (seed, iou_type)
            different.add(round(ours["AP"], 9))
    assert len(different) > 20


def test_equals_pycocotools_on_photos(shared_data):
    """The detections are the annotated masks of the COCO subset, shifted, with scores that have ties."""
    path = shared_data / "coco" / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    random, sizes = np.random.default_rng(0), {i["id"]: (i["height"], i["width"]) for i in content["images"]}
    results = []
    for record in content["annotations"][::5]:
        mask = np.roll(segmentation_to_mask(record["segmentation"], *sizes[record["image_id"]]), 3, axis=1)
        encoded = mask_to_rle(mask)
        box = [float(v) for v in mask_api.toBbox(encoded)]
        score = round(float(random.random()), 2)
        keys = ("image_id", "category_id")
        results.append({**{k: record[k] for k in keys}, "score": score, "bbox": box, "segmentation": encoded})
    for iou_type in ("segm", "bbox"):
        assert same(average_precision(path, results, iou_type), pycocotools(path, results, iou_type))
    some = [image["id"] for image in content["images"][:40]]
    for key in ("images", "annotations"):
        content[key] = [r for r in content[key] if r.get("image_id", r["id"]) in some]
    for record in content["annotations"]:
        record["segmentation"] = segmentation_to_rle(record["segmentation"], *sizes[record["image_id"]])
    results = [record for record in results if record["image_id"] in some]
    assert same(average_precision(path, results, "boundary", image_ids=some), quick(content, results, "boundary"))


def test_at_most_100_detections_of_an_image_and_category_count(tmp_path, cheap):
    content, _ = cheap(3)
    mask = np.zeros((120, 130), bool)
    mask[5:40, 5:40] = True
    truth = {"id": 1, "image_id": 3, "category_id": 1, "iscrowd": 0, "area": 1225.0, "bbox": [5.0, 5.0, 35.0, 35.0]}
    content["annotations"] = [{**truth, "segmentation": mask_to_rle(mask)}]
    (tmp_path / "a.json").write_text(json.dumps(content))
    wrong = [
        {"image_id": 3, "category_id": 1, "score": 0.9, "bbox": [100, 100, 9, 9], "segmentation": mask_to_rle(~mask)}
    ]
    right = {**wrong[0], "score": 0.5, "segmentation": mask_to_rle(mask)}
    assert average_precision(tmp_path / "a.json", [*wrong * 99, right])["AP"] == pytest.approx(0.01)
    assert average_precision(tmp_path / "a.json", [*wrong * 100, right])["AP"] == 0


def test_chosen_categories_and_images(synthetic):
    path, results = synthetic(11)
    everything = average_precision(path, results)
    chosen = average_precision(path, results, category_ids=[3])
    assert same(chosen, pycocotools(path, results, "segm", category_ids=[3]))
    some = average_precision(path, results, image_ids=[2, 5, 6])
    assert same(some, pycocotools(path, results, "segm", image_ids=[2, 5, 6]))
    assert len({everything["AP"], chosen["AP"], some["AP"]}) == 3


def test_perfect_and_none(synthetic):
    path, _ = synthetic(2)
    truth = json.loads(path.read_text())["annotations"]
    perfect = [{**record, "score": 0.9} for record in truth if not record["iscrowd"]]
    for iou_type in ("segm", "boundary", "bbox"):
        assert average_precision(path, perfect, iou_type)["AP"] == pytest.approx(1)
        assert average_precision(path, [], iou_type)["AP"] == 0


def test_files_and_records_and_a_data_set_agree(tmp_path, synthetic):
    path, results = synthetic(3)
    write_results(tmp_path / "results.json", results)
    expected = average_precision(path, results)
    assert average_precision(str(path), str(tmp_path / "results.json")) == expected
    assert average_precision(CocoDataset.from_file(path), read_results(tmp_path / "results.json")) == expected


def test_nothing_is_changed_or_printed(synthetic, capfd):
    path, results = synthetic(4)
    kept = copy.deepcopy(results)
    first = average_precision(path, results)
    assert results == kept
    assert average_precision(path, results) == first
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_annotation_id_zero_counts(synthetic):
    """pycocotools takes id 0 for 'unmatched'; the score must not depend on how a file numbers its records."""
    path, results = synthetic(5)
    expected = average_precision(path, results)
    data = json.loads(path.read_text())
    for record in data["annotations"]:
        record["id"] -= 1
    path.write_text(json.dumps(data))
    assert average_precision(path, results) == expected


def test_area_and_iscrowd_may_be_missing(synthetic):
    path, results = synthetic(6)
    data = json.loads(path.read_text())
    data["annotations"] = [record for record in data["annotations"] if not record["iscrowd"]]
    path.write_text(json.dumps(data))
    expected = average_precision(path, results)
    for record in data["annotations"]:
        del record["area"], record["iscrowd"]
    path.write_text(json.dumps(data))
    assert average_precision(path, results) == expected


def test_no_object_is_not_a_number(synthetic):
    path, results = synthetic(7)
    assert np.isnan(average_precision(path, results, category_ids=[9])["AP"])
    data = json.loads(path.read_text())
    data["annotations"] = []
    path.write_text(json.dumps(data))
    assert all(np.isnan(value) for value in average_precision(path, results).values())


@pytest.mark.parametrize("shift", [1, 2, 3, 5])
def test_boundary_follows_its_definition(tmp_path, shift):
    """With one object and one detection, AP is the share of thresholds that their boundary IoU reaches."""
    truth = np.zeros((200, 240), bool)
    truth[40:160, 50:170] = True
    found = np.roll(truth, shift, axis=1)
    data = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 200, "width": 240}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": mask_to_rle(truth), "area": 14400, "iscrowd": 0}
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    result = [{"image_id": 1, "category_id": 1, "score": 1.0, "segmentation": mask_to_rle(found)}]
    reached = np.mean(mask_overlaps(truth, found)[1] >= np.arange(0.5, 0.96, 0.05) - 1e-9)
    assert average_precision(tmp_path / "a.json", result, "boundary")["AP"] == pytest.approx(reached)
    assert average_precision(tmp_path / "a.json", result, "segm")["AP"] >= reached


def test_real_annotations_score_perfectly_against_themselves(shared_data):
    path = shared_data / "penn_fudan" / "annotations" / "instances_val.json"
    records = [{**r, "score": 1.0} for r in json.loads(path.read_text())["annotations"]]
    assert average_precision(path, records)["AP"] == pytest.approx(1)
    mask = segmentation_to_mask(records[0]["segmentation"], *records[0]["segmentation"]["size"])
    assert mask.sum() == records[0]["area"]


def test_bad_arguments(synthetic):
    path, results = synthetic(8)
    with pytest.raises(ParamsError, match="iou_type must be one of segm, boundary, bbox"):
        average_precision(path, results, "mask")
    with pytest.raises(DataError, match=r"no category in .* with the id 5"):
        average_precision(path, results, category_ids=[5])
    with pytest.raises(DataError, match=r"no image in .* with the id 500"):
        average_precision(path, results, image_ids=[500])


@pytest.mark.parametrize(
    ("change", "iou_type", "words"),
    [
        ({"image_id": 999}, "segm", "no image with the id 999"),
        ({"image_id": None}, "segm", "'image_id'"),
        ({"score": float("nan")}, "segm", "'score'"),
        ({"segmentation": None}, "segm", "RLE or a list"),
        ({"segmentation": {"size": [9, 9], "counts": "1"}}, "boundary", "size"),
        ({"bbox": None}, "bbox", "no 'bbox'"),
        ({"bbox": [1, 2, 3]}, "bbox", "'bbox'"),
    ],
)
def test_bad_results_are_named(synthetic, change, iou_type, words):
    path, results = synthetic(9)
    results[2] = {**results[2], **change}
    with pytest.raises(DataError, match=words) as caught:
        average_precision(path, results, iou_type)
    assert "result 2" in str(caught.value)
