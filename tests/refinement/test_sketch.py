"""Masks from boxes and scribbles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from crispmask.coco import CocoDataset
from crispmask.errors import ShapeError, ValueRangeError
from crispmask.image import read_image
from crispmask.refinement.sketch import mask_from_box, mask_from_scribbles


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.fixture
def disc() -> tuple[np.ndarray, np.ndarray]:
    """A noisy orange disc on noisy blue, and its mask."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:90, :120]
    mask = np.hypot(y - 45, x - 60) < 28
    image = np.where(mask[..., None], (210, 120, 40), (60, 90, 160)) + random.normal(0, 12, (90, 120, 3))
    return np.clip(image, 0, 255).astype(np.uint8), mask


def test_a_box_around_a_disc_becomes_the_disc(disc):
    image, truth = disc
    found = mask_from_box(image, (31, 16, 89, 74))
    assert iou(found.mask(0), truth) > 0.97
    assert found.boxes[0].tolist() == [31, 16, 89, 74]


def test_scribbles_choose_one_of_two_discs_that_look_alike(disc):
    image, truth = disc
    twice, both = np.concatenate([image, image], axis=1), np.zeros((90, 240), bool)
    both[:, :120] = truth
    inside, outside = np.zeros_like(both), np.zeros_like(both)
    inside[40:50, 50:70] = True
    outside[5:85, 118:122] = outside[40:50, 165:195] = True
    found = mask_from_scribbles(twice, inside, outside, box=(0, 0, 125, 90)).mask(0)
    assert iou(found, both) > 0.95
    assert found[inside].all()
    assert not found[outside].any()


def test_what_is_marked_holds(astronaut):
    inside, outside = np.zeros((512, 512), bool), np.zeros((512, 512), bool)
    inside[80:200, 205:225] = inside[300:480, 200:210] = True
    outside[20:200, 40:50] = outside[30:110, 440:460] = True
    found = mask_from_scribbles(astronaut, inside, outside).mask(0)
    assert found[inside].all()
    assert not found[outside].any()
    boxed = mask_from_scribbles(astronaut, inside, box=(30, 0, 400, 512)).mask(0)
    assert boxed[inside].all()
    assert not boxed[:, 402:].any()
    assert boxed[60:150, 190:250].mean() > 0.9  # the face
    assert boxed[320:500, 60:270].mean() > 0.9  # the suit


def test_a_box_at_the_corner_of_the_image(disc):
    image, truth = disc
    found = mask_from_box(image[45:, 60:], (-5, -5, 29, 29)).mask(0)
    assert iou(found, truth[45:, 60:]) > 0.9


def test_a_box_that_goes_far_beyond_the_image(disc):
    """Its crop had more pixels than an image can have."""
    image, _ = disc
    far, near = (mask_from_box(image, (31, 16, 89, y1)).mask(0) for y1 in (1e21, 180))
    np.testing.assert_array_equal(far, near)


def test_the_same_bits_every_time(disc):
    image, _ = disc
    one, other = (mask_from_box(image, (31, 16, 89, 74)).windows[0].probabilities for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("box", "error", "message"),
    [
        ((1, 2, 3), ShapeError, "four finite numbers"),
        ((0, 0, float("nan"), 5), ShapeError, "finite numbers"),
        ((50, 10, 20, 40), ValueRangeError, "less than one pixel"),
        ((500, 500, 600, 600), ValueRangeError, "less than one pixel"),
    ],
)
def test_boxes_that_say_nothing(disc, box, error, message):
    with pytest.raises(error, match=message):
        mask_from_box(disc[0], box)


def test_scribbles_that_say_nothing(disc):
    image, mask = disc
    nothing = np.zeros_like(mask)
    with pytest.raises(ValueRangeError, match="what is outside"):
        mask_from_scribbles(image, mask, nothing)
    with pytest.raises(ValueRangeError, match="mark at least one pixel"):
        mask_from_scribbles(image, nothing, mask)
    with pytest.raises(ValueRangeError, match="both as inside and as outside"):
        mask_from_scribbles(image, mask, mask)
    with pytest.raises(ShapeError, match="scribble inside has shape"):
        mask_from_scribbles(image, mask[1:], mask)


def test_pedestrians_from_their_boxes_alone(shared_data):
    """A floor below the 0.75 of a larger sample; the boxes themselves have 0.52."""
    folder = shared_data / "penn_fudan"
    dataset = CocoDataset.from_file(folder / "annotations" / "instances_val.json")
    scores = []
    for image in list(dataset.images.values())[:6]:
        photo, truth = read_image(folder / "val" / image.file_name), dataset.instances(image.id)
        scores += [iou(mask_from_box(photo, box).mask(0), truth.mask(i)) for i, box in enumerate(truth.boxes)]
    assert np.mean(scores) > 0.65


def test_objects_from_a_few_marks(shared_data):
    """Three discs inside and four outside."""
    folder = shared_data / "penn_fudan"
    dataset = CocoDataset.from_file(folder / "annotations" / "instances_val.json")
    random, scores = np.random.default_rng(0), []
    for image in list(dataset.images.values())[:6]:
        photo, truth = read_image(folder / "val" / image.file_name), dataset.instances(image.id)
        for i in range(len(truth)):
            mask = truth.mask(i)
            y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
            marks = []
            near = binary_dilation(mask, iterations=40) & ~binary_dilation(mask, iterations=4)
            for where, count in ((binary_erosion(mask, iterations=4), 3), (near, 4)):
                ys, xs = np.nonzero(where)
                drawn = np.zeros_like(mask)
                for k in random.integers(0, len(ys), count):
                    drawn |= (y - ys[k]) ** 2 + (x - xs[k]) ** 2 < 16
                marks.append(drawn)
            scores.append(iou(mask_from_scribbles(photo, marks[0] & mask, marks[1] & ~mask).mask(0), mask))
    assert np.median(scores) > 0.6
