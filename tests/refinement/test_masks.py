"""Refinement: what goes in comes out, crisper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispmask.coco.dataset import CocoDataset
from crispmask.crf import PermutohedralLattice
from crispmask.errors import ParamsError, ShapeError, ValueRangeError
from crispmask.image import read_image
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.refinement import instance_crf, refine, refine_each, refine_instances
from crispmask.refinement import masks as masks_module
from crispmask.refinement import solve as solve_module
from crispmask.refinement.solve import LATTICE_PARAMS
from crispmask.refinement.windows import Rect, overlapping


def iou(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


def coarse(mask, cells=14):
    """What a detector with a grid of so many cells would see of a mask: block means over its box, pasted back."""
    from crispmask.detectors.paste import paste_window
    from crispmask.instances import tight_box

    x0, y0, x1, y1 = (int(v) for v in tight_box(mask))
    rows, columns = (np.linspace(a, b, cells * 4 + 1)[:-1] for a, b in ((y0, y1), (x0, x1)))
    fine = mask[np.ix_(rows.astype(int), columns.astype(int))].astype(np.float32)
    grid = fine.reshape(cells, 4, cells, 4).mean(axis=(1, 3))
    full = np.zeros(mask.shape, np.float32)
    window = paste_window(grid, np.array([x0, y0, x1, y1], np.float32), mask.shape)
    full[window.slices] = window.probabilities
    return full


@pytest.fixture(scope="module")
def scene():
    """Two coloured discs on a textured ground, and their true masks."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:120, :160]
    masks = np.stack([(y - 60) ** 2 + (x - 50) ** 2 < 30**2, (y - 60) ** 2 + (x - 110) ** 2 < 28**2])
    image = np.full((120, 160, 3), (60, 110, 60), np.uint8)
    image[masks[0]] = (200, 60, 50)
    image[masks[1]] = (70, 80, 200)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8), masks


@pytest.mark.parametrize("params", [CRFParams(), CRFParams.paper()], ids=["default", "paper"])
def test_a_coarse_mask_becomes_crisp(scene, params):
    image, truth = scene
    for mask in truth:
        before = coarse(mask, cells=7)
        after = refine(image, before, params)
        assert iou(after > 0.5, mask) > iou(before > 0.5, mask)
        assert iou(after > 0.5, mask) > 0.97


def test_same_type_out_as_in(scene):
    image, truth = scene
    assert refine(image, truth).dtype == np.bool_
    assert refine(image, truth).shape == truth.shape
    assert refine(image, truth[0]).shape == truth[0].shape
    assert refine(image, truth.astype(np.uint8)).dtype == np.uint8
    soft = truth.astype(np.float64) * 0.8
    refined = refine(image, soft)
    assert refined.dtype == np.float64
    assert refined.shape == soft.shape
    assert isinstance(refine(image, Instances.from_masks(truth)), Instances)
    assert refine(image, truth[:0]).shape == (0, *image.shape[:2])
    assert len(refine(image, Instances.empty((120, 160)))) == 0


def test_supervision_detections_keep_their_fields(scene):
    sv = pytest.importorskip("supervision")
    image, truth = scene
    detections = sv.Detections(
        xyxy=Instances.from_masks(truth).boxes,
        mask=truth,
        confidence=np.array([0.9, 0.8]),
        class_id=np.array([1, 3]),
        tracker_id=np.array([7, 8]),
        data={"name": np.array(["a", "b"])},
    )
    refined = refine(image, detections)
    assert isinstance(refined, sv.Detections)
    np.testing.assert_array_equal(refined.mask, refine(image, truth))
    assert refined.tracker_id.tolist() == [7, 8]
    assert refined.data["name"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(detections.mask, truth)


def test_boxes_scores_and_order_stay(scene):
    image, truth = scene
    before = Instances.from_masks(truth, scores=[0.3, 0.9], category_ids=[5, 2])
    after = refine(image, before)
    np.testing.assert_array_equal(after.boxes, before.boxes)
    np.testing.assert_array_equal(after.scores, before.scores)
    assert after.category_ids.tolist() == [5, 2]
    for i in range(2):
        assert iou(after.mask(i), truth[i]) > 0.97


@pytest.mark.parametrize("joint", [False, True])
def test_same_bits_for_any_number_of_threads(scene, joint):
    image, truth = scene
    instances = Instances.from_masks(np.stack([coarse(m, 9) for m in truth] + [coarse(truth.any(0), 6)]))
    one, two, eight = (refine(image, instances, threads=n, joint=joint) for n in (1, 2, 8))
    for a, b, c in zip(one.windows, two.windows, eight.windows, strict=True):
        assert a.probabilities.tobytes() == b.probabilities.tobytes() == c.probabilities.tobytes()


def test_joint_refinement_gives_no_pixel_to_two(scene):
    image, truth = scene
    wide = np.stack([np.roll(coarse(m, 6), shift, 1) for m, shift in zip(truth, (5, -5), strict=True)])
    assert (wide > 0.5).sum(0).max() == 2  # they overlap before
    after = refine(image, wide, joint=True)
    assert (after > 0.5).sum(0).max() == 1
    for mask, guess, refined in zip(truth, wide, after, strict=True):
        assert iou(refined > 0.5, mask) > iou(guess > 0.5, mask) + 0.05


def test_joint_refinement_of_one_instance_is_the_plain_one(scene):
    image, truth = scene
    mask = coarse(truth[0], 8)
    np.testing.assert_array_equal(refine(image, mask, joint=True), refine(image, mask))


def test_far_instances_do_not_share_a_crf(scene):
    image, _ = scene
    small = np.zeros((2, 120, 160), bool)
    small[0, 10:20, 10:20] = small[1, 90:100, 130:140] = True
    np.testing.assert_array_equal(refine(image, small, joint=True), refine(image, small))


def test_a_mask_that_would_be_erased_is_kept():
    image = np.full((60, 60, 3), 128, np.uint8)
    mask = np.zeros((60, 60), np.float32)
    mask[30, 30] = 0.6  # one unsure pixel on a flat ground
    params = CRFParams(bilateral_weight=20, theta_alpha=30, theta_alpha_scale="pixel")
    np.testing.assert_array_equal(refine(image, mask, params), mask)


def test_an_empty_mask_stays_empty(scene):
    image, _ = scene
    assert not refine(image, np.zeros((2, 120, 160), bool)).any()


def test_zero_iterations_leave_the_unary(scene):
    image, truth = scene
    soft = coarse(truth[0])
    params = CRFParams(iterations=0, smoothing_soft=0, confidence=0.9999)
    np.testing.assert_allclose(refine(image, soft, params), np.where(soft > 0, soft, 0), atol=1.1e-4)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["rgb", "lab"]),
    st.booleans(),
)
def test_any_small_picture_gives_probabilities(height, width, seed, colour, joint):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    masks = rng.random((2, height, width), dtype=np.float32)
    refined = refine(image, masks, CRFParams(colour=colour), joint=joint)
    assert refined.min() >= 0
    assert refined.max() <= 1


@pytest.mark.parametrize(
    ("masks", "error", "words"),
    [
        (np.zeros((2, 50, 160), bool), ShapeError, "50x160.*120x160"),
        (np.zeros(5, bool), ShapeError, r"shape \(N, H, W\) or \(H, W\)"),
        (np.full((120, 160), np.nan), ValueRangeError, r"\[0, 1\]"),
        (np.full((120, 160), 1.5), ValueRangeError, r"\[0, 1\]"),
        (np.full((120, 160), 255, np.uint8), ValueRangeError, r"\[0, 1\]"),
    ],
)
def test_bad_masks_are_named(scene, masks, error, words):
    with pytest.raises(error, match=words):
        refine(scene[0], masks)


def test_params_of_another_type_are_named(scene):
    with pytest.raises(ParamsError, match=r"CRFParams\.paper"):
        refine(*scene, "paper")


def test_an_empty_mask_does_not_change_its_neighbours_in_joint_refinement(scene):
    image, mask = scene[0], np.asarray(scene[1])
    masks = mask.reshape(-1, *mask.shape[-2:])
    alone = refine(image, masks, joint=True)
    together = refine(image, np.concatenate([masks, np.zeros_like(masks[:1])]), joint=True)
    assert np.array_equal(together[:-1], alone)
    assert not together[-1].any()


def test_bad_threads_are_named(scene):
    with pytest.raises(ValueRangeError, match="threads"):
        refine(*scene, threads=0)


OTHERS = {
    "theta_alpha": 0.2, "theta_alpha_scale": "pixel", "theta_beta": 9.0, "colour": "rgb", "bilateral_weight": 5.0,
    "theta_gamma": 2.0, "smoothness_weight": 0.0, "iterations": 2, "normalization": "after", "self_term": False,
    "smoothing": 0.1, "smoothing_soft": 0.1, "confidence": 0.9, "context": 0.4, "context_min": 20, "clean": 0.1,
}  # fmt: skip


def test_shared_lattices_change_no_bit(scene, monkeypatch):
    """Whatever parameter differs; and lattices are built where `LATTICE_PARAMS` say so, and nowhere else."""
    image, truth = scene
    before = Instances.from_masks(np.stack([coarse(mask, cells=7) > 0.5 for mask in truth] + [np.zeros_like(truth[0])]))
    assert set(OTHERS) == set(CRFParams().as_dict())
    start = CRFParams(iterations=3)
    settings = [start, *(CRFParams.from_dict({**start.as_dict(), name: value}) for name, value in OTHERS.items())]
    expected = [refine_instances(image, before, params, threads=1)[0] for params in settings]
    built = []
    lattice = PermutohedralLattice.__init__
    monkeypatch.setattr(PermutohedralLattice, "__init__", lambda *a, **k: (built.append(1), lattice(*a, **k))[1])
    found = refine_each(image, before, settings)
    assert len(built) == 2 * (1 + len(LATTICE_PARAMS))
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one.windows, other.windows, strict=True):
            assert (a.y, a.x) == (b.y, b.x)
            assert (a.probabilities == b.probabilities).all()


def test_the_crf_of_an_instance_is_that_of_the_refinement(scene):
    image, truth = scene
    before = Instances.from_masks(np.stack([coarse(mask, cells=7) for mask in truth]))
    refined, _ = refine_instances(image, before, CRFParams())
    for i, window in enumerate(refined.windows):
        crf, corner = instance_crf(image, before, i, CRFParams())
        assert corner == (window.y, window.x)
        np.testing.assert_allclose(crf.run(10).marginals[1], window.probabilities, atol=1e-5)
    with pytest.raises(ShapeError, match="the masks are for an image of"):
        instance_crf(image[1:], before, 0, CRFParams())
    with pytest.raises(ShapeError, match="the masks are for an image of"):
        refine_each(image[1:], before, [CRFParams()])


def test_coarse_masks_of_real_people_gain(shared_data):
    data = CocoDataset.from_file(shared_data / "penn_fudan/annotations/instances_train.json")
    before, after = [], []
    for info in list(data.images.values())[:6]:
        truth = data.instances(info.id)
        image = read_image(shared_data / "penn_fudan/train" / info.file_name)
        guess = np.stack([coarse(truth.mask(i), 10) for i in range(len(truth))])
        refined = refine(image, Instances.from_masks(guess))
        before += [iou(guess[i] > 0.5, truth.mask(i)) for i in range(len(truth))]
        after += [iou(refined.mask(i), truth.mask(i)) for i in range(len(truth))]
    assert np.mean(after) > np.mean(before) + 0.01


def test_progress_and_an_end_of_the_work(scene):
    image, truth = scene
    found = Instances.from_masks(np.concatenate([truth, np.zeros_like(truth[:1])]))
    for joint in (False, True):
        told: list[int] = []
        refine_instances(image, found, CRFParams(), joint=joint, on_progress=told.append)
        assert told == sorted(told)
        assert (told[0], told[-1]) == (1, 3)  # the empty mask is finished from the start

    class Stop(Exception):
        pass

    def stop(done: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        refine_instances(image, found, CRFParams(), on_progress=stop)


def test_the_same_masks_however_many_are_worked_on_at_a_time(scene, monkeypatch):
    image, truth = scene
    found = Instances.from_masks(np.concatenate([truth, np.roll(truth, 5, 1), np.roll(truth, 5, 2)]))
    whole = refine_instances(image, found, CRFParams())[0].masks()
    monkeypatch.setattr(masks_module, "_TOGETHER", 4)
    assert (refine_instances(image, found, CRFParams())[0].masks() == whole).all()


def test_joint_refinement_of_too_many_masks(scene, monkeypatch):
    image, truth = scene
    found = Instances.from_masks(np.concatenate([truth, np.roll(truth, 20, 2)]))
    monkeypatch.setattr(solve_module, "MAX_JOINT", 10_000)
    with pytest.raises(ValueRangeError, match=r"4 masks meet .* limit of 0 million for joint .*--joint.*--score"):
        refine_instances(image, found, CRFParams(), joint=True)


rectangles = st.lists(st.tuples(*[st.integers(0, 12)] * 4).map(lambda r: Rect(r[0], r[1], r[0] + r[2], r[1] + r[3])))


@given(rectangles)
def test_groups_of_rectangles_that_overlap(rects):
    def meet(a, b):
        return a.y0 < b.y1 and b.y0 < a.y1 and a.x0 < b.x1 and b.x0 < a.x1

    groups = overlapping(dict(enumerate(rects)))
    assert sorted(i for group in groups for i in group) == list(range(len(rects)))
    for group in groups:
        reached, new = set(), {group[0]}
        while new:
            reached |= new
            new = {j for i in new for j in range(len(rects)) if j not in reached and meet(rects[i], rects[j])}
        assert reached == set(group)
        assert group == sorted(group)
