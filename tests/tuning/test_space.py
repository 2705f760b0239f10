from __future__ import annotations

from dataclasses import fields

import pytest

from crispmask.errors import ParamsError
from crispmask.params import CRFParams
from crispmask.tuning.space import (
    Choice,
    Range,
    check_space,
    default_grid,
    default_ranges,
    grid_points,
    parse_choice,
    parse_range,
    point_of,
    unit,
)


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("theta_beta=3,5,10", "theta_beta", (3.0, 5.0, 10.0)),
        ("theta-beta = 3, 5,3.0 ", "theta_beta", (3.0, 5.0)),
        ("iterations=5,10", "iterations", (5, 10)),
        ("colour=rgb,lab", "colour", ("rgb", "lab")),
        ("self_term=true,false", "self_term", (True, False)),
    ],
)
def test_choices(text, name, values):
    assert parse_choice(text) == (name, Choice(values))
    assert all(type(a) is type(b) for a, b in zip(parse_choice(text)[1].values, values, strict=True))


def test_ranges():
    assert parse_range("theta_alpha=0.02:0.5:log") == ("theta_alpha", Range(0.02, 0.5, True))
    assert parse_range("iterations=2:20") == ("iterations", Range(2, 20))


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (parse_choice, "theta_beta", "'theta_beta' is not understood"),
        (parse_choice, "=3", "is not understood"),
        (parse_choice, "theta_beta=", "has no values"),
        (parse_choice, "theta_beta= , ", "has no values"),
        (parse_choice, "theta_bta=3", "unknown parameter 'theta_bta'; did you mean 'theta_beta'"),
        (parse_choice, "theta_beta=3,-1", "theta_beta must be at least 0.001, got -1"),
        (parse_choice, "theta_beta=3,wide", "theta_beta must be a number, got 'wide'"),
        (parse_choice, "colour=hsv", "colour must be one of rgb, lab"),
        (parse_choice, "iterations=2.5", "whole number"),
        (parse_range, "theta_beta=3", "must be NAME=LOW:HIGH"),
        (parse_range, "theta_beta=1:3:linear", "must be NAME=LOW:HIGH"),
        (parse_range, "theta_beta=5:3", "from a smaller to a larger number, got 5.0 to 3.0"),
        (parse_range, "bilateral_weight=0:3:log", "must start above 0 to be logarithmic"),
        (parse_range, "colour=rgb:lab", "colour is not a number"),
        (parse_range, "theta_beat=1:2", "did you mean 'theta_beta'"),
    ],
)
def test_what_is_not_understood(parse, text, words):
    with pytest.raises(ParamsError) as error:
        parse(text)
    assert words in str(error.value)


def test_a_grid_is_every_combination_with_equal_lattices_together():
    space = {"bilateral_weight": Choice((1.0, 2.0)), "theta_beta": Choice((3.0, 5.0)), "colour": Choice(("rgb", "lab"))}
    points = grid_points(space)
    assert len(points) == 8
    lattices = [(point["theta_beta"], point["colour"]) for point in points]
    assert lattices == sorted(lattices, key=lattices.index)
    assert len({tuple(sorted(point.items(), key=str)) for point in points}) == 8


@pytest.mark.parametrize("start", [CRFParams(), CRFParams.paper()])
def test_default_searches_hold_the_start(start):
    for space in (default_grid(start), default_ranges(start)):
        point = point_of(start, space)
        assert point is not None
        assert point["theta_alpha"] == start.theta_alpha
    assert point_of(start, {"theta_beta": Choice((1.0,))}) is None


def test_what_results_files_cannot_tune_is_named():
    with pytest.raises(ParamsError, match="smoothing_soft has no effect here"):
        check_space({"smoothing_soft": Choice((0.0, 0.1))})


def test_units():
    assert unit("theta_alpha", CRFParams(), ()) == "θα (multiple of √box area)"
    assert unit("theta_alpha", CRFParams.paper(), ()) == "θα (px)"
    assert "grey levels or CIELAB" in unit("theta_beta", CRFParams(), ["colour"])
    assert all(unit(item.name, CRFParams(), ()) for item in fields(CRFParams))
