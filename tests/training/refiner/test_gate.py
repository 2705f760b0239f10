from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispmask.params import CRFParams
from crispmask.refinement.features import FEATURES
from crispmask.refinement.gate import Gate
from crispmask.training.refiner import gate as module
from crispmask.training.refiner.gate import fit_rules, learn_gates
from crispmask.training.refiner.measure import ANNOTATION, DETECTOR, Measured, Setting
from crispmask.training.refiner.settings import START, best_passes, candidates, compare


def measured(kind: str, image: int, gain: float, features: np.ndarray, near: float = 0.0) -> Measured:
    after = tuple((0.7 + change, 0.7 + change) for change in (gain, near))
    return Measured(kind, image, 0, tuple(features.tolist()), (0.7, 0.7), after)


def masks(kinds: dict[str, tuple[float, float]], count: int, seed: int = 0, near: float = -0.005) -> list[Measured]:
    """Binary masks of each kind, whose gains have a mean and a deviation; the first feature tells the kind.

    Within reach each gains `near`.
    """
    rng = np.random.default_rng(seed)
    made = []
    for number, (kind, (mean, deviation)) in enumerate(kinds.items()):
        for k in range(count):
            features = rng.normal(0, 1, len(FEATURES))
            features[0], features[FEATURES.index("binary")] = number, 1
            made.append(measured(kind, k, rng.normal(mean, deviation), features.astype(np.float32), near))
    return made


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.integers(10, 60))
def test_rules_predict_what_scikit_learn_predicts(seed, count):
    from sklearn.ensemble import GradientBoostingRegressor

    rng = np.random.default_rng(seed)
    # Coarse values: many ties, at which both must take the same side.
    features = (rng.integers(0, 8, (count, len(FEATURES))) / 7).astype(np.float32)
    targets, weights = rng.normal(size=(count, 2)), rng.uniform(0.5, 2, count)
    rules = fit_rules(features, targets, weights)
    unseen = (rng.integers(0, 15, (200, len(FEATURES))) / 14).astype(np.float32)
    for k in range(2):
        model = GradientBoostingRegressor(
            n_estimators=module.TREES,
            learning_rate=module.RATE,
            max_depth=3,
            min_samples_leaf=min(module.LEAST_LEAF, max(1, count // 8)),
            random_state=0,
        ).fit(features, targets[:, k], weights)
        for values in (features, unseen):
            assert np.allclose(rules.predict(values)[:, k], model.predict(values), atol=1e-9)


def test_thresholds_lie_just_above_scikit_learns():
    for value in (0.5, 0.1, -0.25, 1 / 3, float(np.float32(0.1))):
        above = module._next_float32(value)
        assert above > value
        assert float(np.nextafter(np.float32(above), np.float32(-np.inf))) <= value


def test_a_kind_that_loses_is_left_alone_and_one_that_gains_is_refined():
    gates = learn_gates(masks({"coarse": (0.08, 0.03), "fine": (-0.03, 0.01)}, 80))
    coarse, fine = gates.outcomes
    assert coarse.kept < 8
    assert coarse.after[0] > coarse.before[0] + 0.06
    assert fine.kept > 76
    assert fine.after[0] > fine.before[0] - 0.002
    assert fine.always[0] < fine.before[0] - 0.02
    one = np.zeros((2, len(FEATURES)), np.float32)
    one[1, 0] = 1
    one[:, FEATURES.index("binary")] = 1
    foreseen = gates.binary.rules.predict(one)
    assert [gates.binary.verdict(of).refined for of in foreseen] == [True, False]
    assert foreseen[1, 1] > 0.8 > foreseen[0, 1]


def test_margins_keep_to_their_bound():
    found = masks({"coarse": (0.08, 0.03), "fine": (-0.03, 0.01)}, 80)
    free, bound = learn_gates(found), learn_gates(found, least_margin=0.11)
    assert free.binary.margin < 0.11 <= bound.binary.margin
    assert bound.binary.near_margin >= 0.11
    assert sum(o.kept for o in bound.outcomes) > sum(o.kept for o in free.outcomes)


def test_masks_with_probabilities_have_a_gate_of_their_own_and_a_detectors_have_none():
    """Binary ones lose, those with probabilities gain, whatever else is known of them."""
    fine, coarse = masks({"fine": (-0.03, 0.01)}, 80), masks({"fine": (0.08, 0.03)}, 80)
    binary = FEATURES.index("binary")
    soft = [
        replace(m, kind="soft", features=tuple(0.0 if k == binary else v for k, v in enumerate(m.features)))
        for m in coarse
    ]
    gates = learn_gates([*fine, *soft, *(replace(m, kind=DETECTOR) for m in fine)])
    kept = {o.kind: o.kept for o in gates.outcomes}
    assert list(kept) == sorted(kept)
    assert kept["fine"] > 76
    assert kept["soft"] < 8
    assert kept[DETECTOR] == 0
    alone = learn_gates(fine)
    assert alone.binary.rules.to_toml() == gates.binary.rules.to_toml()
    assert not alone.soft.verdict(alone.soft.rules.predict(np.zeros((1, len(FEATURES))))[0]).refined


def test_what_would_lose_in_full_is_refined_within_reach():
    gates = learn_gates(masks({"fine": (-0.03, 0.01)}, 80, near=0.004))
    (fine,) = gates.outcomes
    assert fine.near > 76
    assert fine.after[0] == pytest.approx(fine.before[0] + 0.004 * fine.near / fine.masks)
    binary = np.zeros(len(FEATURES))
    binary[FEATURES.index("binary")] = 1
    verdict = gates.binary.verdict(gates.binary.rules.predict(binary[None])[0])
    assert verdict.refined
    assert verdict.near
    assert verdict.gain == pytest.approx(0.004, abs=1e-3)


def test_a_kind_may_not_lose_on_one_set_for_what_it_gains_on_another():
    """Masks of which half, of one set, gain 2 points, and half, of another, lose 0.6; nothing tells them apart."""
    found = [replace(m, source=m.image % 2) for m in masks({"coarse": (0.0, 0.0)}, 80)]
    found = [replace(m, after=(tuple(v + (-0.006 if m.source else 0.02) for v in m.before), m.before)) for m in found]
    (apart,) = learn_gates(found).outcomes
    (together,) = learn_gates([replace(m, source=0) for m in found]).outcomes
    assert together.kept < 20
    assert apart.kept > 50


@pytest.mark.parametrize(("kind", "lost"), [(ANNOTATION, 0.002), ("fine", 0.0)])
def test_an_annotation_may_lose_a_little_for_what_others_gain(kind, lost):
    """Of masks that nothing tells apart half gain 2 points; the other half, of one kind, lose 0.2."""
    (outcome, _) = learn_gates([*masks({kind: (-0.002, 0)}, 80), *masks({"gaining": (0.02, 0)}, 80)]).outcomes
    assert outcome.kind == kind
    assert outcome.before[0] - outcome.after[0] == pytest.approx(lost)


def test_the_risk_has_a_price():
    """Of two masks with the same expected gain the one that risks more is left alone."""
    gate = Gate.constant(0.05, 0.2, margin=0.01, risk_cost=0.1)
    assert gate.verdict((0.05, 0.2, 0, 0)).reason == "gain expected"
    assert gate.verdict((0.05, 0.5, 0, 0)).reason == "risk too high"
    assert gate.verdict((0.01, 0.0, 0, 0)).reason == "no gain expected"


def test_luck_does_not_open_the_gate():
    """Gains that are noise around a loss: whatever features they are told by, hardly a mask may be touched."""
    (outcome,) = learn_gates(masks({"noise": (-0.01, 0.05)}, 300)).outcomes
    assert outcome.after[0] >= outcome.before[0] - module.LOST - module.CHANCES[-1] / 300
    assert outcome.worse <= module.MOSTLY


def test_few_masks_get_worse():
    gates = learn_gates(masks({"uncertain": (0.02, 0.06)}, 200))
    assert np.mean([o.worse for o in gates.outcomes]) <= module.MOSTLY


def test_the_gate_survives_its_file():
    gate = learn_gates(masks({"coarse": (0.08, 0.03), "fine": (-0.03, 0.01)}, 30)).binary
    again = Gate.from_dict(tomllib.loads(gate.to_toml("gate"))["gate"])
    for name in ("margin", "risk_cost", "near_margin", "near_risk_cost"):
        assert getattr(again, name) == getattr(gate, name)
    features = np.random.default_rng(0).normal(size=(50, len(FEATURES))).astype(np.float32)
    assert np.array_equal(again.rules.predict(features), gate.rules.predict(features))


def test_the_best_setting_comes_first_and_every_kind_counts_the_same():
    settings = [Setting(CRFParams()), Setting(CRFParams(iterations=0))]

    def one(kind: str, first: float, second: float) -> Measured:
        return Measured(kind, 0, 0, (), (0.5, 0.5), ((first, first), (second, second)))

    found = [*[one("many", 0.6, 0.5)] * 10, one("few", 0.5, 0.7), *[one(ANNOTATION, 1, 0)] * 10]
    best, other = compare(found, settings)
    assert best.setting is settings[1]
    assert best.gain == pytest.approx(0.1)
    assert other.gain == pytest.approx(0.05)
    assert best.changes() == {"iterations": 0}


def test_what_the_gates_will_leave_alone_does_not_choose_the_setting():
    settings = [Setting(CRFParams()), Setting(CRFParams(iterations=0))]
    found = [
        Measured("coarse", 0, 0, (), (0.5, 0.5), ((0.7, 0.7), (0.6, 0.6))),
        Measured("nearly right", 0, 0, (), (0.9, 0.9), ((0.5, 0.5), (0.8, 0.8))),
    ]
    best, other = compare(found, settings)
    assert best.setting is settings[0]
    assert (best.gain, other.gain) == pytest.approx((0.1, 0.05))


@pytest.mark.parametrize("kinds", [[DETECTOR], [DETECTOR, "coarse", "fine"]])
def test_a_detectors_masks_count_half(kinds):
    """Also where they lose: no gate leaves them alone."""
    settings = [Setting(CRFParams()), Setting(CRFParams(iterations=0))]
    found = [
        Measured(kind, 0, 0, (), (0.5, 0.5), ((0.7, 0.7), (0.4, 0.4)) if kind == DETECTOR else ((0.4, 0.4), (0.6, 0.6)))
        for kind in kinds
    ]
    best, other = compare(found, settings)
    assert best.setting is settings[0]
    assert (best.gain, other.gain) == pytest.approx((0.2, -0.1) if len(kinds) == 1 else (0.1, 0.0))


def test_the_start_and_no_crf_are_among_the_settings():
    found = candidates()
    assert found[0] == START
    assert any(setting.crf.iterations == 0 for setting in found)
    assert len(set(found)) == len(found)


def test_the_number_of_passes_is_the_best_one():
    boxes = [Measured("box", k, 0, (), (0.5, 0.5), ((0.6, 0.5), (0.8, 0.7), (0.79, 0.7))) for k in range(3)]
    assert best_passes(boxes, (1, 2, 3))[0] == 2
