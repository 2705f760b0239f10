from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from crispmask import refine
from crispmask.errors import DataError, ShapeError, ValueRangeError
from crispmask.instances import Instances
from crispmask.integrations import (
    COCO_CATEGORY_IDS,
    from_detectron2,
    from_matterport,
    from_mmdetection,
    from_supervision,
    from_torchvision,
    from_ultralytics,
    to_supervision,
)

SIZE = (37, 53)


@pytest.fixture
def instances(tricky_masks) -> Instances:
    masks = np.stack(list(tricky_masks.values()))
    return Instances.from_masks(masks, scores=np.linspace(0.2, 0.9, 7), category_ids=[1, 2, 3, 1, 44, 79, 0])


def arrays(value):
    return np.asarray(value)


def tensors(value):
    return pytest.importorskip("torch").as_tensor(np.asarray(value))


def gradients(value):
    """Tensors that still hang on their graph, in half precision where they are probabilities."""
    torch = pytest.importorskip("torch")
    tensor = torch.as_tensor(np.asarray(value))
    return tensor.to(torch.bfloat16).requires_grad_() if tensor.is_floating_point() else tensor


KINDS = pytest.mark.parametrize("kind", [arrays, tensors])


def same(a: Instances, b: Instances) -> bool:
    return (
        a.image_size == b.image_size
        and (a.masks() == b.masks()).all()
        and np.array_equal(a.boxes, b.boxes)
        and np.array_equal(a.scores, b.scores)
        and np.array_equal(a.category_ids, b.category_ids)
    )


# --- supervision ---


def test_supervision_round_trip(instances):
    sv = pytest.importorskip("supervision")
    detections = to_supervision(instances)
    assert isinstance(detections, sv.Detections)
    assert detections.mask.dtype == np.bool_
    assert detections.mask.shape == (7, *SIZE)
    assert same(from_supervision(detections, SIZE), instances)
    part = from_supervision(detections[detections.confidence > 0.5], SIZE)
    assert same(part, instances[instances.scores > 0.5])


def test_supervision_empty():
    sv = pytest.importorskip("supervision")
    assert same(from_supervision(to_supervision(Instances.empty(SIZE)), SIZE), Instances.empty(SIZE))
    assert same(from_supervision(sv.Detections.empty(), SIZE), Instances.empty(SIZE))


def test_supervision_compact_masks(instances):
    compact = pytest.importorskip("supervision.detection.compact_mask")
    sv = pytest.importorskip("supervision")
    detections = to_supervision(instances)
    # It keeps what lies inside the boxes, whose far sides are inclusive there.
    boxes = detections.xyxy.copy()
    boxes[:, 2:] -= 1
    packed = sv.Detections(
        xyxy=detections.xyxy,
        mask=compact.CompactMask.from_dense(detections.mask, boxes, SIZE),
        confidence=detections.confidence,
        class_id=detections.class_id,
    )
    assert same(from_supervision(packed, SIZE), instances)


def test_supervision_without_scores_and_classes(instances):
    sv = pytest.importorskip("supervision")
    bare = sv.Detections(xyxy=instances.boxes, mask=instances.masks())
    converted = from_supervision(bare, SIZE)
    assert converted.scores.tolist() == [1] * 7
    assert converted.category_ids.tolist() == [1] * 7


def test_supervision_without_masks_or_of_another_size(instances):
    sv = pytest.importorskip("supervision")
    with pytest.raises(DataError, match="no masks"):
        from_supervision(sv.Detections(xyxy=instances.boxes), SIZE)
    with pytest.raises(ShapeError, match="37x53 pixels and the image is 53x37"):
        from_supervision(to_supervision(instances), (53, 37))


def test_changing_the_detections_does_not_change_the_instances(instances):
    pytest.importorskip("supervision")
    detections = to_supervision(instances)
    detections.xyxy[:] = 0
    detections.confidence[:] = 0
    assert instances.boxes.any()
    assert instances.scores.all()


# --- torchvision ---


def torchvision_result(instances: Instances, kind=arrays) -> dict:
    return {
        "boxes": kind(instances.boxes),
        "labels": kind(instances.category_ids),
        "scores": kind(instances.scores),
        "masks": kind(instances.masks()[:, None].astype(np.float32)),
    }


@KINDS
def test_torchvision(instances, kind):
    assert same(from_torchvision(torchvision_result(instances, kind)), instances)
    assert same(from_torchvision(torchvision_result(instances, kind), SIZE), instances)


@KINDS
def test_torchvision_empty(kind):
    empty = Instances.empty(SIZE)
    assert same(from_torchvision(torchvision_result(empty, kind)), empty)


def test_torchvision_keeps_probabilities():
    probabilities = np.random.default_rng(0).random((2, 1, 9, 8)).astype(np.float32)
    instances = from_torchvision({"masks": probabilities})
    assert (instances.probability(1) == probabilities[1, 0]).all()
    assert instances.scores.tolist() == [1, 1]


def test_torchvision_target(instances):
    target = {**torchvision_result(instances), "masks": instances.masks().astype(np.uint8)}
    del target["scores"]
    assert (from_torchvision(target).masks() == instances.masks()).all()


def test_torchvision_half_precision_with_gradients(instances):
    assert (from_torchvision(torchvision_result(instances, gradients)).masks() == instances.masks()).all()


def test_torchvision_model_output():
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchvision").models.detection
    torch.manual_seed(0)
    backbone = torch.nn.Conv2d(3, 8, 3, stride=8)
    backbone.out_channels = 8
    anchors = detection.rpn.AnchorGenerator(((16, 32),), ((0.5, 1.0),))
    model = detection.MaskRCNN(backbone, 3, 64, 64, rpn_anchor_generator=anchors, box_score_thresh=0.0)
    with torch.no_grad():
        (result,) = model.eval()([torch.rand(3, 48, 64)])
    instances = from_torchvision(result, (48, 64))
    assert len(instances) == len(result["boxes"]) > 0
    for i in range(len(instances)):
        assert (instances.probability(i) == result["masks"][i, 0].numpy()).all()


def test_torchvision_from_a_photo(astronaut):
    """A small untrained network, from the pixels to refined masks."""
    import torch
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    model = MaskRCNN(backbone, 3, min_size=64, max_size=64, box_score_thresh=0.0, box_detections_per_img=2).eval()
    image = np.ascontiguousarray(astronaut[::4, ::4])
    with torch.no_grad():
        (result,) = model([torch.from_numpy(image).permute(2, 0, 1) / 255])
    found = from_torchvision(result, image.shape[:2])
    assert len(found) == len(result["scores"]) > 0
    assert refine(image, found).masks().shape == (len(found), *image.shape[:2])


# --- Detectron2 ---


def detectron2_result(instances: Instances, kind=arrays) -> dict:
    return {
        "instances": SimpleNamespace(
            image_size=instances.image_size,
            pred_boxes=SimpleNamespace(tensor=kind(instances.boxes)),
            scores=kind(instances.scores),
            pred_classes=kind(instances.category_ids),
            pred_masks=kind(instances.masks()),
        )
    }


@KINDS
def test_detectron2(instances, kind):
    assert same(from_detectron2(detectron2_result(instances, kind)), instances)
    assert same(from_detectron2(detectron2_result(instances, kind)["instances"]), instances)
    assert same(from_detectron2(detectron2_result(Instances.empty(SIZE), kind)), Instances.empty(SIZE))


def test_detectron2_without_masks(instances):
    result = detectron2_result(instances)
    del result["instances"].pred_masks
    with pytest.raises(DataError, match="Detectron2 result has no masks"):
        from_detectron2(result)


def test_detectron2_before_its_post_processing(instances):
    result = detectron2_result(instances)
    result["instances"].pred_masks = np.zeros((7, 28, 28), bool)
    with pytest.raises(ShapeError, match="28x28"):
        from_detectron2(result)


# --- Ultralytics ---


def ultralytics_result(instances: Instances, kind=arrays, masks=None, polygons=None) -> SimpleNamespace:
    data = kind(instances.masks().astype(np.float32) if masks is None else masks)
    if polygons is not None:
        data = None
    return SimpleNamespace(
        orig_shape=instances.image_size,
        boxes=SimpleNamespace(
            xyxy=kind(instances.boxes),
            conf=kind(instances.scores),
            cls=kind(instances.category_ids.astype(np.float32)),
        ),
        masks=SimpleNamespace(data=data, xy=polygons) if len(instances) else None,
    )


@KINDS
def test_ultralytics_masks_of_the_photos_size(instances, kind):
    assert same(from_ultralytics(ultralytics_result(instances, kind)), instances)


def test_ultralytics_empty(instances):
    assert same(from_ultralytics(ultralytics_result(Instances.empty(SIZE))), Instances.empty(SIZE))
    nothing = SimpleNamespace(orig_shape=SIZE, boxes=None, masks=None)
    assert same(from_ultralytics(nothing), Instances.empty(SIZE))


def letterboxed(masks: np.ndarray, side: int, whole_square: bool) -> np.ndarray:
    """Masks as a network of that size sees them: nearest neighbour, LetterBox's own arithmetic, padding of zeros."""
    height, width = masks.shape[1:]
    gain = min(side / height, side / width)
    h, w = round(height * gain), round(width * gain)
    pad_h, pad_w = ((side - h), (side - w)) if whole_square else ((side - h) % 32, (side - w) % 32)
    rows = ((np.arange(h) + 0.5) * height / h).astype(int)
    columns = ((np.arange(w) + 0.5) * width / w).astype(int)
    top, left = round(pad_h / 2 - 0.1), round(pad_w / 2 - 0.1)
    inside = masks[:, rows][:, :, columns]
    return np.pad(inside, ((0, 0), (top, round(pad_h / 2 + 0.1)), (left, round(pad_w / 2 + 0.1))))


@pytest.mark.parametrize("size", [(37, 53), (53, 37), (40, 40), (427, 640), (333, 500), (101, 67)])
@pytest.mark.parametrize("whole_square", [True, False])
def test_ultralytics_letterbox_is_undone(size, whole_square):
    masks = np.zeros((2, *size), bool)
    masks[0, size[0] // 4 : size[0] // 2, : size[1] // 3] = True
    masks[1, -1, -5:] = masks[1, :4, -1] = True
    truth = Instances.from_masks(masks)
    for side in (640, 1280):
        boxed = letterboxed(masks, side, whole_square)
        result = ultralytics_result(truth, masks=boxed.astype(np.float32))
        converted = from_ultralytics(result)
        if side >= 2 * max(size):  # enlarged without loss, so that nothing may move
            assert (converted.masks() == masks).all()
        else:  # a pixel's edge falls between two of the network's: the mask may be off there, and nowhere else
            for mask, found in zip(masks, converted.masks(), strict=True):
                assert not (found ^ mask)[binary_erosion(mask) | ~binary_dilation(mask)].any()
                assert (found ^ mask).mean() < 1e-4
        assert set(np.unique(converted.probability(0))) <= {0, 1}


def test_ultralytics_letterbox_down():
    """Half the size: every edge within a pixel, and no shift."""
    masks = np.zeros((1, 480, 1000), bool)
    masks[0, 100:301, 200:701] = True
    boxed = letterboxed(masks, 512, whole_square=False)
    assert boxed.shape == (1, 256, 512)
    converted = from_ultralytics(ultralytics_result(Instances.from_masks(masks), masks=boxed))
    rows, columns = np.flatnonzero(converted.mask(0).any(1)), np.flatnonzero(converted.mask(0).any(0))
    found = np.array([rows[0], rows[-1], columns[0], columns[-1]])
    assert np.abs(found - [100, 300, 200, 700]).max() <= 1


def test_ultralytics_soft_masks_stay_soft():
    soft = np.zeros((1, 64, 64), np.float32)
    soft[0, 20:40, 20:40] = 0.7
    one = Instances.from_masks(np.ones((1, 32, 32), bool))
    converted = from_ultralytics(ultralytics_result(one, masks=soft))
    assert converted.probability(0).max() == pytest.approx(0.7)


def test_ultralytics_polygons():
    one = Instances.from_masks(np.ones((2, 30, 40), bool))
    polygons = [np.array([[2, 2], [6, 2], [6, 6], [2, 6]], np.float32), np.zeros((0, 2), np.float32)]
    converted = from_ultralytics(ultralytics_result(one, polygons=polygons))
    assert converted.mask(0).sum() == 16
    assert converted.mask(0)[2:6, 2:6].all()
    assert not converted.mask(1).any()


def test_ultralytics_without_masks(instances):
    result = ultralytics_result(instances)
    result.masks = None
    with pytest.raises(DataError, match="Ultralytics result has no masks"):
        from_ultralytics(result)


# --- Matterport ---


@KINDS
def test_mmdetection(instances, kind):
    def result(of: Instances) -> SimpleNamespace:
        fields = {"bboxes": of.boxes, "scores": of.scores, "labels": of.category_ids, "masks": of.masks()}
        return SimpleNamespace(pred_instances=SimpleNamespace(**{name: kind(value) for name, value in fields.items()}))

    assert same(from_mmdetection(result(instances)), instances)
    assert same(from_mmdetection(result(instances).pred_instances), instances)
    assert same(from_mmdetection(result(Instances.empty(SIZE))), Instances.empty(SIZE))
    boxes_alone = result(instances)
    del boxes_alone.pred_instances.masks
    with pytest.raises(DataError, match="MMDetection result has no masks"):
        from_mmdetection(boxes_alone)


def matterport_result(instances: Instances) -> dict:
    return {
        "rois": instances.boxes[:, [1, 0, 3, 2]].astype(np.int32),
        "class_ids": instances.category_ids.astype(np.int32),
        "scores": instances.scores,
        "masks": instances.masks().transpose(1, 2, 0),
    }


def test_matterport(instances):
    assert same(from_matterport(matterport_result(instances)), instances)
    assert same(from_matterport(matterport_result(instances), SIZE), instances)


def test_matterport_empty(instances):
    result = matterport_result(Instances.empty(SIZE))
    assert same(from_matterport(result), Instances.empty(SIZE))
    # What it really gives when nothing was found: masks of the network's size.
    result["masks"] = np.empty((28, 28, 0))
    assert same(from_matterport(result, SIZE), Instances.empty(SIZE))


def test_matterport_of_another_size(instances):
    with pytest.raises(ShapeError, match="37x53"):
        from_matterport(matterport_result(instances), (100, 100))


# --- all of them ---


def test_category_ids_of_coco():
    assert len(COCO_CATEGORY_IDS) == len(set(COCO_CATEGORY_IDS)) == 80
    # person, dog, toothbrush: class 0, 16, 79 of 80
    assert [COCO_CATEGORY_IDS[k] for k in (0, 16, 79)] == [1, 18, 90]


def test_category_ids_equal_the_data_sets(shared_data):
    from crispmask.coco import CocoDataset

    data = CocoDataset.from_file(shared_data / "coco" / "annotations" / "instances_val2017.json")
    assert tuple(data.categories) == COCO_CATEGORY_IDS


@pytest.mark.parametrize(
    ("convert", "make"),
    [
        (from_detectron2, detectron2_result),
        (from_ultralytics, ultralytics_result),
        (from_matterport, matterport_result),
        (from_torchvision, torchvision_result),
        (lambda d, **options: from_supervision(d, SIZE, **options), to_supervision),
    ],
)
def test_classes_become_categories(instances, convert, make):
    result = make(instances)
    expected = [COCO_CATEGORY_IDS[k] for k in instances.category_ids]
    assert convert(result, categories=COCO_CATEGORY_IDS).category_ids.tolist() == expected
    assert convert(result, categories=dict(enumerate(COCO_CATEGORY_IDS))).category_ids.tolist() == expected
    with pytest.raises(DataError, match="class 44 has no category id"):
        convert(result, categories=[5, 6, 7, 8])


@pytest.mark.parametrize("convert", [from_torchvision, from_matterport])
def test_no_masks(convert):
    with pytest.raises(DataError, match="no masks"):
        convert({"rois": np.zeros((1, 4)), "boxes": np.zeros((1, 4))})


def test_logits_are_refused():
    with pytest.raises(ValueRangeError, match="probabilities"):
        from_torchvision({"masks": np.full((1, 1, 4, 4), 3.0)})


def test_lengths_that_differ(instances):
    result = torchvision_result(instances)
    result["scores"] = result["scores"][:3]
    with pytest.raises(ShapeError, match="scores"):
        from_torchvision(result)
