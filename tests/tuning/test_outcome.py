"""What cross-validation says, by hand."""

from __future__ import annotations

import csv
import json
import math
import tomllib
from types import SimpleNamespace

import pytest

from crispmask.params import CRFParams
from crispmask.tuning.files import write_params, write_scores, write_summary
from crispmask.tuning.outcome import conclude
from crispmask.tuning.study import Trial
from crispmask.tuning.task import Scores

NAN = math.nan
TASK = SimpleNamespace(folds=((1, 2), (3,)), objective="boundary-iou", image_ids=(1, 2, 3), matches=4)
START = CRFParams(theta_beta=5.0)


def outcome_of(trials, learned=0.45):
    references = {
        "unrefined": Scores(0.4, (0.4, 0.4), (0.3, 0.5)),
        "learned": Scores(learned, (learned, learned), (learned - 0.1, learned + 0.1)),
        "start": Scores(0.5, (0.5, 0.5), (0.5, 0.5)),
    }
    return conclude(TASK, SimpleNamespace(references=references, trials=trials), START)


@pytest.fixture
def outcome():
    """Point 7 is best on all images; the second fold, without image 3, prefers 9."""
    return outcome_of(
        [
            Trial({"theta_beta": 7.0}, Scores(0.8, (0.9, 0.6), (0.7, 0.9))),
            Trial({"theta_beta": 9.0}, Scores(0.7, (0.5, 0.7), (0.9, 0.4))),
        ]
    )


def test_each_fold_chooses_without_what_it_is_measured_on(outcome):
    assert outcome.best.values == {"theta_beta": 7.0}
    assert outcome.params == CRFParams(theta_beta=7.0)
    assert [fold.chosen["theta_beta"] for fold in outcome.folds] == [7.0, 9.0]
    assert [(fold.fitted, fold.held_out, fold.best) for fold in outcome.folds] == [(0.9, 0.7, 0.7), (0.7, 0.4, 0.9)]
    assert outcome.mean("held_out") == pytest.approx(0.55)
    assert outcome.mean("unrefined") == pytest.approx(0.4)
    assert outcome.optimism == pytest.approx(0.8 - 0.55)


@pytest.mark.parametrize(("learned", "recommended"), [(0.45, True), (0.56, False), (0.75, False)])
def test_only_what_beats_the_learned_parameters_is_recommended(learned, recommended, tmp_path):
    """On images held out: chosen without them, 0.55; the best on all images, 0.8, has seen what it is measured on."""
    trials = [
        Trial({"theta_beta": 7.0}, Scores(0.8, (0.9, 0.6), (0.7, 0.9))),
        Trial({"theta_beta": 9.0}, Scores(0.7, (0.5, 0.7), (0.9, 0.4))),
    ]
    outcome = outcome_of(trials, learned)
    assert outcome.mean("held_out") == pytest.approx(0.55)
    assert outcome.mean("learned") == pytest.approx(learned)
    assert outcome.recommended is recommended
    write_params(tmp_path / "best.toml", outcome)
    assert ("# Not recommended" in (tmp_path / "best.toml").read_text()) is not recommended
    write_summary(tmp_path / "summary.json", outcome)
    assert json.loads((tmp_path / "summary.json").read_text())["recommended"] is recommended


def test_the_start_wins_where_nothing_is_better():
    outcome = outcome_of([Trial({"theta_beta": 7.0}, Scores(0.5, (0.5, 0.4), (0.5, 0.5)))])
    assert outcome.best.values == {}
    assert outcome.params == START
    here = Trial({"theta_beta": 5.0}, Scores(0.5, (0.5, 0.5), (0.5, 0.5)))
    outcome = outcome_of([Trial({"theta_beta": 7.0}, Scores(0.5, (0.5, 0.4), (0.5, 0.5))), here])
    assert outcome.best is here


def test_parts_with_nothing_to_measure_are_left_out():
    outcome = outcome_of([Trial({"theta_beta": 7.0}, Scores(0.8, (0.9, NAN), (NAN, 0.9)))])
    assert outcome.folds[1].chosen == {}
    assert outcome.mean("held_out") == pytest.approx(0.5)
    assert outcome.mean("best") == pytest.approx(0.9)


def test_files(outcome, tmp_path):
    for name, write in (("a.csv", write_scores), ("a.toml", write_params), ("a.json", write_summary)):
        write(tmp_path / name, outcome)
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["point"] for row in rows] == ["unrefined", "learned", "start", "1", "2"]
    assert [row["theta_beta"] for row in rows] == ["", "", "", "7.0", "9.0"]
    assert [float(row["boundary_iou"]) for row in rows] == [0.4, 0.45, 0.5, 0.8, 0.7]
    assert float(rows[4]["fitted_2"]) == 0.7
    assert CRFParams.from_toml(tmp_path / "a.toml") == outcome.params
    assert tomllib.loads((tmp_path / "a.toml").read_text())["theta_beta"] == 7.0
    assert "55.00 %, learned parameters 45.00 %, unrefined 40.00 %" in (tmp_path / "a.toml").read_text()
    summary = json.loads((tmp_path / "a.json").read_text())
    assert summary["best"] == {"values": {"theta_beta": 7.0}, "score": 0.8}
    assert summary["cross_validation"]["optimism"] == pytest.approx(0.25)
