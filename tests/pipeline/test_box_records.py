"""Records of a results file that have a box and no mask: learned parameters make the mask."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from crispmask.coco import mask_to_rle, results_to_instances
from crispmask.errors import DataError
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.pipeline import Settings, refine_records, refine_results
from crispmask.refinement import refine


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    """Two bright discs on a dark ground, and their masks (2, H, W)."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:100, :180]
    masks = np.stack([np.hypot(y - 50, x - 45) < 30, np.hypot(y - 52, x - 130) < 26])
    image = np.where(masks.any(0)[..., None], (215, 170, 70), (40, 70, 120)) + rng.normal(0, 6, (100, 180, 3))
    return np.clip(image, 0, 255).astype(np.uint8), masks


@pytest.fixture
def records(scene) -> list[dict]:
    """The first disc by its box, the second by a mask that is four pixels off, the first once more by its box."""
    _, masks = scene
    box, shifted = [15, 20, 61, 61], np.roll(masks[1], 4, axis=1)
    return [
        {"image_id": 7, "category_id": 1, "score": 0.9, "bbox": box},
        {"image_id": 7, "category_id": 2, "score": 0.8, "segmentation": mask_to_rle(shifted)},
        {"image_id": 7, "category_id": 3, "score": 1.2, "bbox": box, "segmentation": None},
    ]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_boxes_and_masks_of_one_image_keep_their_order(scene, records):
    image, masks = scene
    found, left_alone = refine_records(image, records, Settings(score=0), threads=2)
    assert [{**record, "segmentation": None} for record in found] == [{**r, "segmentation": None} for r in records]
    again = results_to_instances([{**r, "score": 0.5} for r in found], 100, 180)
    assert iou(again.mask(0), masks[0]) > 0.9
    assert np.array_equal(again.mask(2), again.mask(0))
    assert left_alone[0] == left_alone[2] == ""
    expected = refine(image, Instances.from_masks(np.roll(masks[1], 4, axis=1), scores=[0.8]))
    assert np.array_equal(again.mask(1), expected.mask(0))
    boxed = refine(image, boxes=[15, 20, 76, 81])
    assert np.array_equal(again.mask(0), boxed.mask(0))


def test_a_file_of_boxes(scene, records, tmp_path):
    image, masks = scene
    (tmp_path / "images").mkdir()
    Image.fromarray(image).save(tmp_path / "images" / "000000000007.png")
    (tmp_path / "boxes.json").write_text(json.dumps(records[:1]))
    report = refine_results(tmp_path / "boxes.json", tmp_path / "images", tmp_path / "out.json")
    (record,) = json.loads((tmp_path / "out.json").read_text())
    assert report.records == 1
    assert iou(results_to_instances([record], 100, 180).mask(0), masks[0]) > 0.9


def test_fixed_parameters_need_masks(scene, records, tmp_path):
    image, _ = scene
    (tmp_path / "images").mkdir()
    Image.fromarray(image).save(tmp_path / "images" / "000000000007.png")
    (tmp_path / "boxes.json").write_text(json.dumps(records))
    with pytest.raises(DataError, match="result 0 has no 'segmentation'"):
        refine_results(
            tmp_path / "boxes.json", tmp_path / "images", tmp_path / "out.json", Settings(score=0, params=CRFParams())
        )
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("box", [[300, 20, 30, 30], [10, 10, 0, 5], [10, 10, 0.4, 50]])
def test_a_box_that_covers_nothing_is_named(scene, box, tmp_path):
    image, _ = scene
    (tmp_path / "images").mkdir()
    Image.fromarray(image).save(tmp_path / "images" / "000000000007.png")
    record = {"image_id": 7, "category_id": 1, "score": 0.9, "bbox": box}
    (tmp_path / "boxes.json").write_text(json.dumps([record]))
    with pytest.raises(DataError, match=r"result 0: 'bbox' .* covers less than one pixel"):
        refine_results(tmp_path / "boxes.json", tmp_path / "images", tmp_path / "out.json")
