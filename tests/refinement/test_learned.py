from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import crispmask
from crispmask import CRFParams, Instances, explain, load_detector, read_image, refine
from crispmask.coco import CocoDataset
from crispmask.errors import ParamsError
from crispmask.refinement import LearnedParams, Setting, default_params, read_params
from crispmask.refinement.features import FEATURES
from crispmask.refinement.learned import why_not


@pytest.fixture
def scene():
    """A bright disc on a dark ground, and its mask three pixels too far to the right, as probabilities."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:90, :100]
    truth = (y - 45) ** 2 + (x - 50) ** 2 < 28**2
    image = np.where(truth[..., None], (210, 180, 60), (40, 60, 120)) + rng.normal(0, 6, (90, 100, 3))
    distance = np.sqrt((y - 45) ** 2 + (x - 53) ** 2) - 28
    return np.clip(image, 0, 255).astype(np.uint8), (1 / (1 + np.exp(distance / 2))).astype(np.float32), truth


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_the_setting_with_the_largest_expected_gain_is_used(scene, learnt):
    image, mask, _ = scene
    expected = refine(image, mask, replace(learnt.settings[1].params, context=0.2, context_min=8))
    assert np.array_equal(refine(image, mask, learnt), expected)
    (decision,) = explain(image, mask, learnt)
    assert decision.setting == learnt.settings[1]
    assert decision.gain == pytest.approx(0.02)


def test_below_the_margin_the_mask_is_left_alone(scene, learnt):
    image, mask, _ = scene
    closed = replace(learnt, margin=0.02)
    assert np.array_equal(refine(image, mask, closed), mask)
    (decision,) = explain(image, mask, closed)
    assert decision.setting is None
    assert decision.reason == "no gain expected"


@pytest.mark.parametrize(
    ("feature", "value", "reason"),
    [("change", 0.01, "already sure"), ("size", 3.0, "too small"), ("contrast", 3.0, "low contrast")],
)
def test_reasons(feature, value, reason):
    values = {**dict.fromkeys(FEATURES, 0.5), "size": 7.0, "contrast": 40.0, feature: value}
    assert why_not(np.array([values[name] for name in FEATURES], np.float32), network=True) == reason


def test_an_empty_mask_has_no_decision(scene, learnt):
    image, mask, _ = scene
    assert explain(image, np.stack([mask, 0 * mask]), learnt)[1] is None


def test_fixed_parameters_explain_nothing(scene):
    with pytest.raises(ParamsError, match="decide"):
        explain(scene[0], scene[1], CRFParams())


def test_joint_groups_give_every_pixel_to_one(scene, learnt):
    image, mask, _ = scene
    both = np.stack([mask, np.roll(mask, 12, axis=1)])
    for params in (learnt, replace(learnt, margin=0.5), default_params()):
        refined = refine(image, both > 0.5, params, joint=True)
        assert not (refined[0] & refined[1]).any()


def test_overrides_hold_for_all_settings(learnt):
    changed = learnt.with_overrides({"theta_beta": 9.0, "context_min": 20})
    assert {s.params.theta_beta for s in changed.settings} == {9.0}
    assert changed.context_min == 20
    assert learnt.with_overrides({}) is learnt
    with pytest.raises(ParamsError, match="theta_bet"):
        learnt.with_overrides({"theta_bet": 1})


def test_round_trip(tmp_path, learnt, scene):
    path = learnt.save(tmp_path)
    again = read_params(path)
    assert isinstance(again, LearnedParams)
    assert again.checksum == learnt.checksum
    assert again.settings == learnt.settings
    assert np.array_equal(refine(scene[0], scene[1], again), refine(scene[0], scene[1], learnt))
    assert again.save(tmp_path / "twice").read_bytes() == path.read_bytes()


def test_what_ships_round_trips(tmp_path):
    shipped = default_params()
    again = LearnedParams.from_toml(shipped.save(tmp_path))
    assert again.checksum == shipped.checksum
    assert again.network == shipped.network


def test_the_checksum_follows_what_decides(learnt, always):
    others = [
        replace(learnt, margin=0.005),
        replace(learnt, rules=always([0.01, 0.03])),
        replace(learnt, settings=(learnt.settings[1], learnt.settings[0])),
        replace(learnt, context=0.3),
    ]
    assert len({p.checksum for p in (learnt, *others)}) == 5
    assert replace(learnt, about={"by": "me"}).checksum == learnt.checksum


def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, learnt):
    path = learnt.save(tmp_path)
    whole = path.read_text()
    for text in (
        whole.replace("[[settings]]", "[[setings]]"),
        whole.replace("margin = 0.0", 'margin = "much"'),
        whole.replace("margin = 0.0", "margin = 7"),
        whole.replace("network = false", "network = true"),
        whole.replace("bilateral_weight = 4.0", "bilateral_weight = -4.0"),
        whole.replace('name = "light"\n', ""),
        whole.replace("context = 0.2\ncontext_min = 8\n", "surprise = 1\n", 1),
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
    network = tmp_path / "unary.onnx"
    content = network.read_bytes()
    network.write_bytes(content[:-1])
    with pytest.raises(ParamsError, match="damaged"):
        read_params(path)
    network.unlink()
    with pytest.raises(ParamsError, match="keep the two files together"):
        read_params(path)


def test_names(tmp_path):
    assert read_params("learned") is default_params()
    assert read_params("fixed") == CRFParams()
    assert read_params("paper") == CRFParams.paper()
    with pytest.raises(ParamsError, match="unknown parameters 'papr': give 'learned', 'fixed', 'paper'"):
        read_params("papr")
    for old, new in (("default", "learned"), ("crf", "fixed")):
        with pytest.raises(ParamsError, match=f"'{old}' are called '{new}' now: give 'learned'"):
            read_params(old)


def test_settings_and_rules_must_fit(two_settings, always):
    with pytest.raises(ParamsError, match="2 settings"):
        LearnedParams(two_settings, always([0.1]))
    with pytest.raises(ParamsError, match="needs the unary network"):
        LearnedParams((Setting("n", CRFParams(), network=True),), always([0.1]))


def test_the_default_on_photos_it_was_not_learnt_from(shared_data):
    """Detections get better; the annotations themselves are left alone or lose less than the width of a pixel."""
    folder = shared_data / "penn_fudan"
    dataset = CocoDataset.from_file(folder / "annotations" / "instances_val.json")
    detector, pairs = load_detector(threads=1), []
    for info in list(dataset.images.values())[:3]:
        image, truths = read_image(folder / "val" / info.file_name), dataset.instances(info.id).masks()
        found = detector(image)
        for before, after in zip(found, refine(image, found), strict=True):
            best = max(truths, key=lambda truth: iou(truth, before.mask(0)))
            if iou(best, before.mask(0)) > 0.5:
                pairs.append((iou(before.mask(0), best), iou(after.mask(0), best)))
        for truth, kept in zip(truths, refine(image, truths), strict=True):
            assert iou(truth, kept) > 0.97
    before, after = np.mean(pairs, axis=0)
    assert len(pairs) >= 5
    assert after > before + 0.01


def test_same_bits_for_any_number_of_threads(scene):
    image, mask, truth = scene
    masks = np.stack([mask, np.roll(mask, 9, 0), truth.astype(np.float32), mask**2])
    one, three = (refine(image, Instances.from_masks(masks), threads=n) for n in (1, 3))
    for a, b in zip(one.windows, three.windows, strict=True):
        assert a.probabilities.tobytes() == b.probabilities.tobytes()


def test_parameters_travel_to_another_process(scene):
    image, mask, _ = scene
    refine(image, mask)  # starts the session, which cannot travel
    again = pickle.loads(pickle.dumps(default_params()))
    assert np.array_equal(refine(image, mask, again), refine(image, mask))
    assert crispmask.LearnedParams is type(again)
