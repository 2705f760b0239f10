from __future__ import annotations

import tomllib

import numpy as np
import pytest

from crispmask.refinement.rules import Rules

NAMES = ("size", "contrast")


def planted(features: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """One setting gains with contrast up to 0.5, the other with small sizes; class 7 gains 0.1 more with the first."""
    size, contrast = features.T
    first = 0.3 * np.minimum(contrast, 0.5) - 0.05 + 0.1 * (categories == 7)
    return np.stack([first, 0.2 - 0.4 * size], axis=1)


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    features = rng.uniform(0, 1, (3000, 2))
    categories = np.where(rng.random(3000) < 0.3, 7, 1)
    return features, categories, planted(features, categories)


def test_a_planted_rule_is_recovered_from_noise(data):
    features, categories, gains = data
    noisy = gains + np.random.default_rng(4).normal(0, 0.05, gains.shape)
    rules = Rules.fit(NAMES, features, noisy, categories=categories)
    new = np.random.default_rng(5).uniform(0.02, 0.98, (500, 2))
    which = np.where(np.arange(500) % 2, 7, 1)
    expected, truth = rules.predict(new, which), planted(new, which)
    assert np.abs(expected - truth).mean() < 0.03
    clear = np.abs(truth[:, 0] - truth[:, 1]) > 0.05
    assert (expected.argmax(1) == truth.argmax(1))[clear].mean() > 0.99


def test_a_rare_class_has_no_rule_of_its_own(data):
    features, categories, gains = data
    rules = Rules.fit(NAMES, features, gains, categories=categories, category_min=1000)
    assert set(rules.categories) == {1}


def test_instances_outside_what_was_seen_count_as_its_edge(data):
    features, categories, gains = data
    rules = Rules.fit(NAMES, features, gains, categories=categories)
    far, edge = rules.predict([[1e6, -1e6]], [1]), rules.predict([[1.0, 0.0]], [1])
    assert np.array_equal(far, edge)


def test_round_trip(data):
    features, categories, gains = data
    rules = Rules.fit(NAMES, features, gains, categories=categories).rounded()
    again = Rules.from_dict(tomllib.loads(rules.to_toml())["rules"])
    assert again.to_toml() == rules.to_toml()
    assert np.array_equal(again.predict(features, categories), rules.predict(features, categories))


@pytest.mark.parametrize("key", ["features", "base", "nodes", "leaves"])
def test_rules_that_do_not_fit_together(data, key):
    features, _, gains = data
    table = tomllib.loads(Rules.fit(NAMES, features, gains).to_toml())["rules"]
    table[key] = table[key][:1]
    with pytest.raises(ValueError, match=r"rules|reshape"):
        Rules.from_dict(table)


def test_numbers_that_are_not_finite(data):
    features, _, gains = data
    table = tomllib.loads(Rules.fit(NAMES, features, gains).to_toml())["rules"]
    table["base"][0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        Rules.from_dict(table)
