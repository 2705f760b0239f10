"""Learned parameters: what they decide, and their files."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

import crispmask
from crispmask import CRFParams, Instances, explain, load_detector, read_image, refine
from crispmask.coco import CocoDataset
from crispmask.errors import ModelError, ParamsError
from crispmask.instances import Window
from crispmask.refinement import Decision, LearnedParams, default_params, read_params
from crispmask.refinement.features import FEATURES, instance_features
from crispmask.refinement.gate import Gate
from crispmask.refinement.instance import InstanceView
from crispmask.refinement.solve import solve
from crispmask.refinement.unary import Unary
from crispmask.refinement.windows import Rect


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_the_crf_pulls_the_networks_mask_onto_the_edge(disc, learned):
    image, soft, truth = disc
    refined, (decision,) = refine(image, soft > 0.5, learned(temperature=4.0), return_decisions=True)
    assert decision.refined
    assert decision.reason == "gain expected"
    assert iou(refined, truth) > 0.95 > iou(soft > 0.5, truth)


def test_what_somebody_drew_roughly_around_a_person_is_refined(astronaut):
    y, x = np.mgrid[:512, :512]
    ellipse = ((x - 205) / 185) ** 2 + ((y - 320) / 280) ** 2 < 1
    refined, (decision,) = refine(astronaut, ellipse, return_decisions=True)
    person = refine(astronaut, boxes=[20, 3, 400, 510]).mask(0)
    assert decision.reason == "gain expected"
    assert iou(refined, person) > 0.9 > 0.7 > iou(ellipse, person)


def test_masks_with_probabilities_have_a_gate_of_their_own(disc, learned):
    image, soft, _ = disc
    opened, closed = Gate.constant(0.3, 0.1), Gate.constant(-0.3, 0.1)
    for binary_gate, soft_gate in ((opened, closed), (closed, opened)):
        params = replace(learned(), binary_gate=binary_gate, soft_gate=soft_gate)
        for mask, gate in ((soft > 0.5, binary_gate), (soft, soft_gate)):
            refined, (decision,) = refine(image, mask, params, return_decisions=True)
            assert decision.gain == pytest.approx(0.3 if gate is opened else -0.3)
            assert decision.refined == (gate is opened)
            assert np.array_equal(refined, mask) != decision.refined


def test_the_gate_has_no_say_over_masks_with_a_score(disc, learned):
    image, soft, _ = disc
    params = learned(gain=-1.0)
    predicted, drawn = (Instances.from_masks(soft > 0.5, scores=[score]) for score in (0.9, 1.0))
    reasons = {
        (name, gated): explain(image, found, replace(params, gated=gated))[0].reason
        for name, found in (("predicted", predicted), ("drawn", drawn))
        for gated in ("unscored", "all", "none")
    }
    assert reasons == {
        ("predicted", "unscored"): "predicted by a model",
        ("drawn", "unscored"): "no gain expected",
        ("predicted", "all"): "no gain expected",
        ("drawn", "all"): "no gain expected",
        ("predicted", "none"): "the gate is off",
        ("drawn", "none"): "the gate is off",
    }
    with pytest.raises(ParamsError, match="unscored, all, none"):
        replace(params, gated="some")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"gain": 0.0}, "no gain expected"),
        ({"gain": 0.02, "margin": 0.02}, "no gain expected"),
        ({"risk": 0.5, "risk_cost": 0.1}, "risk too high"),
    ],
)
def test_the_gate_leaves_a_mask_alone_and_says_what_decided(disc, learned, options, reason):
    image, soft, _ = disc
    mask, params = soft > 0.5, learned(**options)
    refined, (decision,) = refine(image, mask, params, return_decisions=True)
    assert np.array_equal(refined, mask)
    assert not decision.refined
    assert decision.reason == reason
    assert decision.gain == pytest.approx(options.get("gain", 0.01))
    assert decision.risk == pytest.approx(options.get("risk", 0.1))
    assert explain(image, mask, params) == [decision]


NEAR = {"near_gain": 0.01, "near_margin": 0.0}


@pytest.mark.parametrize("share", [0.02, 0.04])
@pytest.mark.parametrize("joint", [False, True])
def test_within_reach_the_outline_moves_so_far_and_no_farther(disc, learned, share, joint):
    image, soft, truth = disc
    mask = soft > 0.5
    params = learned(-0.1, near=NEAR, reach=share, temperature=4.0)
    refined, (decision,) = refine(image, mask, params, joint=joint, return_decisions=True)
    assert decision.refined
    assert decision.reason == "gain expected near the outline"
    assert decision.gain == pytest.approx(0.01)
    assert decision.reach == pytest.approx(share * np.sqrt(mask.sum()))
    moved = np.maximum(distance_transform_edt(mask), distance_transform_edt(~mask))[refined != mask] - 0.5
    assert 0 < moved.max() <= decision.reach
    assert iou(refined, truth) > iou(mask, truth)
    free = refine(image, mask, learned(temperature=4.0))
    assert iou(refined, mask) > iou(free, mask)


def test_what_the_network_calls_impossible_stays_where_it_is_beyond_reach(disc):
    """The unary of a mask whose network sees its left half alone: the right half is farther away than its rectangle."""
    image, soft, _ = disc
    window = Instances.from_masks(soft > 0.5).windows[0]
    unary = Unary(np.where(window.mask, 2, -2).astype(np.float32), window_rect(window), 50.0, CRFParams())
    half = Rect(unary.rect.y0, unary.rect.x0, unary.rect.y1, unary.rect.x0 + 25)
    seen = Unary(np.ascontiguousarray(unary.odds[:, :25]), half, 50.0, CRFParams()).within_reach(window, 2.0)
    (made,) = solve(image, [seen])
    full, before = np.zeros(image.shape[:2], bool), np.zeros(image.shape[:2], bool)
    full[seen.rect.slices] = made.mask
    before[unary.rect.slices] = window.mask
    moved = np.maximum(distance_transform_edt(before), distance_transform_edt(~before))[full != before] - 0.5
    assert moved.max(initial=0) <= 2.0


def window_rect(window: Window) -> Rect:
    return Rect(window.y, window.x, window.y + window.height, window.x + window.width)


def test_within_a_reach_of_no_pixel_a_mask_is_left_alone(disc, learned):
    image, soft, _ = disc
    refined, (decision,) = refine(image, soft > 0.5, learned(-0.1, near=NEAR, reach=0.005), return_decisions=True)
    assert decision == Decision(False, -0.1, pytest.approx(0.1), "no gain expected")
    assert np.array_equal(refined, soft > 0.5)


def test_a_box_is_always_refined(disc, learned):
    image, _, truth = disc
    found, (decision,) = refine(image, boxes=[22, 17, 78, 73], params=learned(gain=-1.0), return_decisions=True)
    assert decision.refined
    assert isinstance(found, Instances)
    assert iou(found.mask(0), truth) > 0.95


def test_masks_and_boxes_cannot_be_given_at_once(disc, learned):
    image, mask, _ = disc
    for arguments in ({"masks": mask, "boxes": [0, 0, 5, 5]}, {}):
        with pytest.raises(crispmask.CrispmaskError, match="give masks, or boxes"):
            refine(image, **arguments)
    with pytest.raises(ParamsError, match="cannot make them from boxes"):
        refine(image, boxes=[0, 0, 50, 50], params=CRFParams())


def test_an_empty_mask_has_no_decision(disc, learned):
    image, mask, _ = disc
    assert explain(image, np.stack([mask, 0 * mask]), learned())[1] is None


def test_fixed_parameters_explain_nothing(disc):
    with pytest.raises(ParamsError, match="decide"):
        explain(disc[0], disc[1], CRFParams())


def test_joint_groups_give_every_pixel_to_one(disc, learned):
    image, mask, _ = disc
    both = np.stack([mask, np.roll(mask, 12, axis=1)])
    for params in (learned(), learned(gain=-1.0), default_params()):
        refined = refine(image, both > 0.5, params, joint=True)
        assert not (refined[0] & refined[1]).any()


def test_features_have_names_and_are_finite(disc, learned):
    image, mask, _ = disc
    params = learned()
    for probabilities in (mask, (mask > 0.5).astype(np.float32), np.ones_like(mask)):
        view = InstanceView.of(image, Instances.from_masks(probabilities), 0)
        features = instance_features(view, params.answer(view))
        assert features.shape == (len(FEATURES),)
        assert np.isfinite(features).all()
        named = dict(zip(FEATURES, features, strict=True))
        assert named["binary"] == (set(np.unique(probabilities)) <= {0, 1})
        assert named["change"] == pytest.approx(0, abs=0.02)  # the network says what it was told


def test_overrides_change_the_crf(learned):
    params = learned()
    changed = params.with_overrides({"theta_beta": 9.0, "context_min": 20})
    assert (changed.crf.theta_beta, changed.crf.context_min) == (9.0, 20)
    assert params.with_overrides({}) is params
    assert params.with_overrides({"gated": "all"}).checksum == replace(params, gated="all").checksum
    with pytest.raises(ParamsError, match="theta_bet"):
        params.with_overrides({"theta_bet": 1})


def test_round_trip(tmp_path, learned, disc):
    params = learned(margin=0.005, temperature=1.5)
    path = params.save(tmp_path)
    again = read_params(path)
    assert isinstance(again, LearnedParams)
    assert again.checksum == params.checksum
    assert again.crf == params.crf
    assert np.array_equal(refine(disc[0], disc[1], again), refine(disc[0], disc[1], params))
    assert again.save(tmp_path / "twice").read_bytes() == path.read_bytes()


def test_what_ships_round_trips(tmp_path):
    shipped = default_params()
    again = LearnedParams.from_toml(shipped.save(tmp_path))
    assert again.checksum == shipped.checksum
    assert again.network == shipped.network


def test_the_checksum_follows_what_decides(learned):
    params = learned()
    others = [
        replace(params, binary_gate=Gate.constant(0.01, 0.1, margin=0.005)),
        replace(params, gated="none"),
        replace(params, soft_gate=Gate.constant(0.01, 0.3)),
        replace(params, crf=CRFParams(theta_beta=7.0)),
        replace(params, temperature=2.0),
        replace(params, network=params.network + b"\0"),
    ]
    assert len({p.checksum for p in (params, *others)}) == 7
    assert replace(params, about={"by": "me"}).checksum == params.checksum


def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, learned):
    path = learned().save(tmp_path)
    whole = path.read_text()
    for text in (
        whole.replace("[crf]", "[crff]"),
        whole.replace("margin = 0.0", 'margin = "much"'),
        whole.replace("margin = 0.0", "margin = 7"),
        whole.replace("[crf]", "[crf]\nbilateral_weight = -4.0"),
        whole.replace("box_passes = 3", "surprise = 1"),
        whole[: whole.index("leaves")],
        whole.rstrip()[:-1],
    ):
        assert text != whole
        path.write_text(text)
        with pytest.raises(ParamsError) as raised:
            read_params(path)
        assert str(path) in str(raised.value)
        assert "\n" not in str(raised.value).strip()


def test_a_network_that_is_missing_or_another(tmp_path):
    path = default_params().save(tmp_path)
    network = tmp_path / "network.onnx"
    content = network.read_bytes()
    network.write_bytes(content[:-1])
    with pytest.raises(ParamsError, match="damaged"):
        read_params(path)
    network.unlink()
    with pytest.raises(ParamsError, match="keep the two files together"):
        read_params(path)


def test_a_network_of_another_kind_is_refused(disc, learned):
    with pytest.raises(ModelError, match="crispmask learn"):
        refine(disc[0], disc[1], replace(learned(), network=b"not a network"))


def test_names():
    assert read_params("learned") is default_params()
    assert read_params("fixed") == CRFParams()
    assert read_params("paper") == CRFParams.paper()
    with pytest.raises(ParamsError, match="'learned', 'fixed', 'paper'"):
        read_params("best")


def test_parameters_travel_to_other_processes(disc):
    shipped = default_params()
    expected = refine(disc[0], disc[1] > 0.5, shipped)  # the network is loaded now
    assert np.array_equal(refine(disc[0], disc[1] > 0.5, pickle.loads(pickle.dumps(shipped))), expected)


@pytest.mark.parametrize("joint", [False, True])
def test_same_bits_for_any_number_of_threads(disc, joint):
    image, mask, _ = disc
    both = np.stack([mask, np.roll(mask, 12, axis=1)])
    one, two, eight = (refine(image, both, threads=n, joint=joint) for n in (1, 2, 8))
    assert one.tobytes() == two.tobytes() == eight.tobytes()


def test_an_object_that_fills_a_huge_image_is_refined_at_a_lower_resolution(learned):
    """Four thousand by three thousand pixels; the edge of the disc is found to within a few pixels."""
    y, x = np.ogrid[:3000, :4000]
    truth = np.hypot(y - 1500, x - 2000) < 1300
    image = np.where(truth[..., None], np.uint8(200), np.uint8(60)).repeat(3, axis=2)
    coarse = np.hypot(y - 1500, x - 2006) < 1297
    refined = refine(image, coarse, learned())
    assert refined.shape == truth.shape
    assert iou(refined, truth) > 0.998 > iou(coarse, truth)


def test_the_shipped_parameters_leave_annotations_and_mend_coarse_masks(shared_data):
    data = CocoDataset.from_file(shared_data / "penn_fudan/annotations/instances_val.json")
    detector = load_detector(threads=2)
    exact, before, after = [], [], []
    for info in list(data.images.values())[:6]:
        image, truth = read_image(shared_data / "penn_fudan/val" / info.file_name), data.instances(info.id)
        kept = refine(image, truth)
        exact += [iou(kept.mask(i), truth.mask(i)) for i in range(len(truth))]
        found = detector(image)
        found = found[found.scores > 0.5]
        refined = refine(image, found)
        for i in range(len(found)):
            j = max(range(len(truth)), key=lambda j: iou(found.mask(i), truth.mask(j)))
            if iou(found.mask(i), truth.mask(j)) < 0.5:
                continue  # nobody's mask
            before.append(iou(found.mask(i), truth.mask(j)))
            after.append(iou(refined.mask(i), truth.mask(j)))
    assert np.mean(exact) > 0.985
    assert np.mean(after) > np.mean(before) + 0.02
