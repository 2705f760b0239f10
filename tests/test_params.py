from __future__ import annotations

import tomllib
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispmask.errors import ParamsError
from crispmask.params import CRFParams


def test_paper_values():
    paper = CRFParams.paper()
    assert (paper.theta_alpha, paper.theta_alpha_scale) == (60, "pixel")
    assert (paper.theta_beta, paper.colour) == (10, "rgb")
    assert (paper.theta_gamma, paper.iterations) == (1, 10)


@given(
    st.builds(
        replace,
        st.sampled_from([CRFParams(), CRFParams.paper()]),
        theta_alpha=st.floats(1e-6, 1e6),
        theta_beta=st.floats(1e-6, 1e20),
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
        ({"theta_alpha": 0}, "theta_alpha must be greater than 0"),
        ({"theta_beta": -1}, "theta_beta must be greater than 0"),
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
    ],
)
def test_values_out_of_range(values, words):
    with pytest.raises(ParamsError, match=words):
        CRFParams(**values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("theta_alfa = 3", "'theta_alfa'; did you mean 'theta_alpha'"),
        ("zzz = 3", "known are theta_alpha"),
        ("theta_alpha = ", "not valid TOML"),
        ("theta_alpha = -2", "greater than 0"),
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
