"""The search and its study: no point is measured again, and none is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from crispmask.errors import DataError, ParamsError
from crispmask.params import CRFParams
from crispmask.refinement import default_params
from crispmask.tuning.search import LEARNED, START, UNREFINED, search, settings_of
from crispmask.tuning.space import Choice, Range
from crispmask.tuning.study import Study
from crispmask.tuning.task import Scores

START_PARAMS = CRFParams()
GRID = {"theta_beta": Choice((3.0, 5.0, 10.0)), "bilateral_weight": Choice((1.0, 2.5, 5.0, 8.0))}
RANGES = {"theta_beta": Range(1.0, 20.0, True), "iterations": Range(1, 20), "colour": Choice(("rgb", "lab"))}


class FakeTask:
    """Scores that are a formula of the parameters, and a count of what was measured."""

    image_ids, folds, objective = (1, 2, 3), ((1,), (2, 3)), "iou"

    def __init__(self) -> None:
        self.measured: Counter = Counter()

    def measure(self, settings, *, threads=None, on_image=None):
        for _ in self.image_ids:
            if on_image:
                on_image()
        found = []
        for params in settings:
            self.measured[params] += 1
            fixed = isinstance(params, CRFParams)
            value = 0.5 if not fixed else 1 / (1 + abs(params.theta_beta - 6) + abs(params.bilateral_weight - 3))
            found.append(Scores(value, (value, value / 2), (value / 3, value / 4)))
        return found


def open_study(path, method="grid", restart=False, **settings) -> Study:
    return Study(path, method, {"objective": "iou", **settings}, restart)


@pytest.fixture
def task() -> FakeTask:
    return FakeTask()


def test_a_grid_is_measured_once_and_remembered(task, tmp_path):
    study = open_study(tmp_path / "study.db")
    search(task, study, GRID, START_PARAMS)
    assert len(study.trials) == 12
    assert set(task.measured) == {
        None,
        default_params(),
        *(settings_of(START_PARAMS, trial.values) for trial in study.trials),
    }
    assert set(task.measured.values()) == {1}
    again = open_study(tmp_path / "study.db")
    assert again.trials == study.trials
    assert again.references == study.references
    assert list(again.references) == [UNREFINED, LEARNED, START]
    assert again.references[START] == study.trials[0].scores
    search(task, again, GRID, START_PARAMS)
    assert set(task.measured.values()) == {1}


def test_a_grown_grid_measures_what_is_new(task, tmp_path):
    search(task, open_study(tmp_path / "study.db"), GRID, START_PARAMS)
    grown = {**GRID, "theta_beta": Choice((5.0, 6.0))}
    study = open_study(tmp_path / "study.db")
    search(task, study, grown, START_PARAMS)
    assert len(study.trials) == 16
    assert set(task.measured.values()) == {1}


@pytest.mark.parametrize(
    ("method", "space", "at"),
    [
        ("grid", GRID, 0),
        ("grid", GRID, 1),
        ("grid", GRID, 9),
        ("tpe", RANGES, 0),
        ("tpe", RANGES, 1),
        ("tpe", RANGES, 11),
    ],
)
def test_interrupted_and_continued_equals_undisturbed(task, tmp_path, method, space, at):
    """Interrupted while the point after the first `at` ones is measured."""
    undisturbed = open_study(tmp_path / "whole.db", method)
    search(task, undisturbed, space, START_PARAMS, trials=14, seed=4)

    def interrupt(step):
        if step.points == at and step.done:
            raise KeyboardInterrupt

    part = open_study(tmp_path / "part.db", method)
    with pytest.raises(KeyboardInterrupt):
        search(task, part, space, START_PARAMS, trials=14, seed=4, on_step=interrupt)
    assert len(part.trials) == at
    study = open_study(tmp_path / "part.db", method)
    search(task, study, space, START_PARAMS, trials=14, seed=4)
    assert study.trials == undisturbed.trials
    assert len(study.trials) == (12 if method == "grid" else 14)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_killed_and_continued_equals_undisturbed(task, tmp_path, share):
    """SIGKILL in the middle of writing a point."""
    code = """
        import os, signal, sys, sqlalchemy
        from test_search import GRID, START_PARAMS, FakeTask, open_study, search
        statements, last = [], float(sys.argv[2])
        @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
        def count(connection, cursor, statement, *rest):
            statements.append(statement)
            if "INSERT INTO trial_user_attributes" in statement:
                if sum(one == statement for one in statements) > last:
                    os.kill(os.getpid(), signal.SIGKILL)
        search(FakeTask(), open_study(sys.argv[1]), GRID, START_PARAMS)
    """
    undisturbed = open_study(tmp_path / "whole.db")
    search(task, undisturbed, GRID, START_PARAMS)
    path, last = tmp_path / "killed.db", str(12 * share)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path), last],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    study = open_study(path)
    assert 0 < len(study.trials) < 12
    search(task, study, GRID, START_PARAMS)
    assert study.trials == undisturbed.trials


def test_tpe_stops_at_its_number_of_points_and_goes_on_from_there(task, tmp_path):
    study = open_study(tmp_path / "study.db", "tpe")
    search(task, study, RANGES, START_PARAMS, trials=5)
    assert len(study.trials) == 5
    assert study.trials[0].values == {"theta_beta": 5.0, "iterations": 10, "colour": "lab"}
    for trial in study.trials:
        assert 1 <= trial.values["theta_beta"] <= 20
        assert type(trial.values["iterations"]) is int
        assert trial.values["colour"] in ("rgb", "lab")
    search(task, study, RANGES, START_PARAMS, trials=3)
    assert len(study.trials) == 5
    search(task, study, RANGES, START_PARAMS, trials=8)
    assert len(study.trials) == 8


def test_tpe_measures_points_that_share_lattices_together(task, tmp_path):
    sizes = []
    measure = task.measure
    task.measure = lambda settings, **options: (sizes.append(len(settings)), measure(settings, **options))[1]
    space = {"bilateral_weight": Range(1.0, 5.0)}
    search(task, open_study(tmp_path / "study.db", "tpe"), space, START_PARAMS, trials=12)
    assert sizes == [3, 8, 3]


def test_progress_ends_at_its_total(task, tmp_path):
    for method, space in (("grid", GRID), ("tpe", RANGES)):
        steps = []
        study = open_study(tmp_path / f"{method}.db", method)
        search(task, study, space, START_PARAMS, trials=6, on_step=steps.append)
        assert steps[0].done == 0
        assert steps[-1].done == steps[-1].total == 3 * (2 + steps[-1].all_points)
        assert [step.done for step in steps] == sorted(step.done for step in steps)


def test_other_settings_are_refused_and_restart_begins_anew(task, tmp_path):
    path = tmp_path / "study.db"
    search(task, open_study(path), GRID, START_PARAMS)
    with pytest.raises(ParamsError, match=r"other settings \(objective was 'iou', is 'ap'\)"):
        Study(path, "grid", {"objective": "ap"})
    with pytest.raises(ParamsError, match="method was 'grid', is 'tpe'"):
        open_study(path, "tpe")
    assert open_study(path, restart=True).trials == []


@pytest.mark.parametrize("content", [b"not a database", b"SQLite format 3\0" + bytes(200), None])
def test_a_damaged_study_is_one_sentence(task, tmp_path, content):
    path = tmp_path / "study.db"
    if content is None:  # a good one, cut off in the middle
        with open_study(path) as study:
            search(task, study, GRID, START_PARAMS)
        assert list(tmp_path.iterdir()) == [path]
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not a study of crispmask, or is damaged"):
        open_study(path)
    assert open_study(path, restart=True).trials == []
