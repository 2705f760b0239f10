from __future__ import annotations

import tomllib

import numpy as np
import pytest

from crispmask.refinement.rules import DEPTH, Rules

NAMES = ("size", "contrast")


@pytest.fixture
def rules() -> Rules:
    rng = np.random.default_rng(3)
    trees, inner, outer = 7, 2**DEPTH - 1, 2**DEPTH
    nodes, thresholds = rng.integers(0, 2, (trees, inner)), rng.uniform(0, 1, (trees, inner))
    leaves, targets = rng.normal(size=(trees, outer)), np.arange(trees) % 2
    return Rules(NAMES, rng.normal(size=2), nodes, thresholds, leaves, targets).rounded()


def walked(rules: Rules, features: np.ndarray) -> np.ndarray:
    """Node by node, as one would by hand."""
    total = rules.base.copy()
    trees = zip(rules.nodes, rules.thresholds, rules.leaves, rules.targets, strict=True)
    for nodes, thresholds, leaves, target in trees:
        at = 0
        while at < len(nodes):
            at = 2 * at + 1 + int(features[nodes[at]] >= thresholds[at])
        total[target] += leaves[at - len(nodes)]
    return total


def test_predictions_are_those_of_a_walk_through_the_trees(rules):
    features = np.random.default_rng(0).uniform(-0.5, 1.5, (200, 2))
    expected = np.stack([walked(rules, row) for row in features])
    np.testing.assert_allclose(rules.predict(features), expected, atol=1e-12)


def test_a_feature_at_the_threshold_goes_right(rules):
    exact = np.array([rules.thresholds[0, 0]] * 2)
    np.testing.assert_allclose(rules.predict(exact[None])[0], walked(rules, exact))


def test_constant_rules_say_the_same_of_all():
    assert Rules.constant(NAMES, [0.5, 2.0]).predict(np.zeros((3, 2))).tolist() == [[0.5, 2.0]] * 3


def test_round_trip(rules):
    again = Rules.from_dict(tomllib.loads(rules.to_toml())["rules"])
    assert again.to_toml() == rules.to_toml()
    features = np.random.default_rng(1).normal(size=(50, 2))
    assert np.array_equal(again.predict(features), rules.predict(features))


@pytest.mark.parametrize("key", ["features", "base", "nodes", "leaves", "targets"])
def test_rules_that_do_not_fit_together(rules, key):
    table = tomllib.loads(rules.to_toml())["rules"]
    table[key] = table[key][:1]
    with pytest.raises(ValueError, match=r"rules|reshape"):
        Rules.from_dict(table)


def test_numbers_that_are_not_finite(rules):
    table = tomllib.loads(rules.to_toml())["rules"]
    table["base"][0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        Rules.from_dict(table)
