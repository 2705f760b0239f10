from __future__ import annotations

import tomllib
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispmask.errors import ParamsError
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.refinement import refine


def test_paper_values():
    paper = CRFParams.paper()
    assert (paper.theta_alpha, paper.theta_alpha_scale) == (60, "pixel")
    assert (paper.theta_beta, paper.colour) == (10, "rgb")
    assert (paper.theta_gamma, paper.iterations) == (1, 10)


@given(
    st.builds(
        replace,
        st.sampled_from([CRFParams(), CRFParams.paper()]),
        theta_alpha=st.floats(1e-3, 1e5),
        theta_beta=st.floats(1e-3, 1e5),
        iterations=st.integers(0, 1000),
        colour=st.sampled_from(["rgb", "lab"]),
        normalization=st.sampled_from(["none", "before", "after", "symmetric"]),
        self_term=st.booleans(),
        confidence=st.floats(0.5, 0.999999, exclude_min=True),
    )
)
def test_toml_round_trip(params):
    assert CRFParams(**tomllib.loads(params.to_toml())) == params


def test_toml_file_round_trip(tmp_path):
    path = tmp_path / "deep" / "params.toml"
    text = CRFParams.paper().to_toml(path)
    assert path.read_text() == text
    assert CRFParams.from_toml(path) == CRFParams.paper()


def test_every_parameter_is_explained_in_the_file():
    text = CRFParams().to_toml()
    for item in fields(CRFParams):
        assert f"# {item.metadata['help']}\n{item.name} = " in text


def test_missing_names_keep_their_defaults(tmp_path):
    path = tmp_path / "params.toml"
    path.write_text("theta_beta = 7\n")
    assert CRFParams.from_toml(path) == replace(CRFParams(), theta_beta=7.0)


def test_values_take_their_fields_type():
    params = CRFParams(theta_alpha=3, iterations=np.int64(4), theta_beta=np.float32(2.5))
    assert type(params.theta_alpha) is float
    assert type(params.iterations) is int
    assert params.theta_beta == 2.5


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"theta_alpha": 0}, "theta_alpha must be at least 0.001, got 0"),
        ({"theta_beta": -1}, "theta_beta must be at least 0.001"),
        ({"theta_alpha": 1e6}, "theta_alpha must be at most 100000"),
        ({"theta_gamma": 1001}, "theta_gamma must be at most 1000"),
        ({"smoothness_weight": 1e30}, "smoothness_weight must be at most 10000"),
        ({"context": 2.5}, "context must be at most 2, got 2.5"),
        ({"context_min": 2**64}, "context_min must be at most 1000"),
        ({"theta_beta": float("nan")}, "finite"),
        ({"theta_gamma": float("inf")}, "finite"),
        ({"theta_alpha": 10**400}, "finite"),
        ({"theta_alpha": "60"}, "must be a number"),
        ({"theta_alpha": True}, "must be a number"),
        ({"theta_alpha": None}, "must be a number"),
        ({"theta_alpha": np.ones(2)}, "must be a number"),
        ({"bilateral_weight": -0.1}, "at least 0"),
        ({"iterations": 2.5}, "whole number"),
        ({"iterations": -1}, "at least 0"),
        ({"iterations": float("nan")}, "finite"),
        ({"confidence": 1}, "at most 0.999999"),
        ({"confidence": 0.5}, "greater than 0.5"),
        ({"confidence": 0.9999999999}, "at most 0.999999"),
        ({"iterations": 10**24}, "at most 1000"),
        ({"smoothing": 1e9}, "at most 1"),
        ({"smoothing_soft": 1e9}, "at most 1"),
        ({"colour": "hsv"}, "rgb, lab"),
        ({"normalization": "off"}, "symmetric"),
        ({"self_term": 1}, "true or false"),
        ({"colour": 3}, "rgb, lab"),
        ({"colour": np.ones(2)}, "rgb, lab"),
    ],
)
def test_values_out_of_range(values, words):
    with pytest.raises(ParamsError, match=words):
        CRFParams(**values)


def test_every_number_has_finite_limits_around_its_default():
    numbers = [item for item in fields(CRFParams) if isinstance(item.default, int | float) and item.default is not True]
    assert len(numbers) == 12
    for item in numbers:
        low, high = item.metadata["low"], item.metadata["high"]
        assert np.isfinite([low, high]).all()
        assert low <= item.default <= high
        for outside in (low - 1, high + 1, -(2**70), 2**70):
            with pytest.raises(ParamsError, match=f"{item.name} must be"):
                CRFParams(**{item.name: outside})


def test_the_limits_do_not_overflow():
    """At either end of every range the CRF gives probabilities."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 15, 3), np.uint8)
    mask = np.zeros((12, 15), bool)
    mask[3:9, 4:11] = True
    found = Instances.from_masks(mask)
    for item in fields(CRFParams):
        limits = item.metadata
        for value in (limits["low"], limits["high"]) if "low" in limits else limits["values"]:
            if item.name == "confidence":
                value = max(value, 0.500001)
            elif item.name in ("iterations", "theta_alpha_scale"):
                continue  # 1000 iterations take long; and the default of theta_alpha is no number of pixels
            window = refine(image, found, replace(CRFParams(iterations=2), **{item.name: value})).windows[0]
            assert np.isfinite(window.probabilities).all(), (item.name, value)
            assert 0 <= window.probabilities.min() <= window.probabilities.max() <= 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("theta_alfa = 3", "'theta_alfa'; did you mean 'theta_alpha'"),
        ("zzz = 3", "known are theta_alpha"),
        ("theta_alpha = ", "not valid TOML"),
        ("theta_alpha = -2", "at least 0.001"),
        ('theta_alpha = "wide"', "theta_alpha must be a number, got 'wide'"),
        (f"iterations = {2**70}", "at most 1000"),
        ("[theta_alpha]\nx = 1", "must be a number"),
    ],
)
def test_bad_file_is_named(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=words) as caught:
        CRFParams.from_toml(path)
    assert "mine.toml" in str(caught.value)


def test_unreadable_files(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParamsError, match="not valid TOML"):
        CRFParams.from_toml(tmp_path / "binary.toml")
    with pytest.raises(ParamsError, match="cannot read"):
        CRFParams.from_toml(tmp_path / "none.toml")
    with pytest.raises(ParamsError, match="cannot read"):
        CRFParams.from_toml(tmp_path)
