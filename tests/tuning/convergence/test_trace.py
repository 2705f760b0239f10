from __future__ import annotations

import csv

import numpy as np
import pytest

from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.refinement import refine
from crispmask.tuning.convergence.sheet import contact_sheet
from crispmask.tuning.convergence.summary import Course, settling, write_iterations, write_objects
from crispmask.tuning.convergence.trace import Trace, trace_image, trace_instance


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, Instances]:
    """A bright disc on noise, a mask that is off, and an empty one."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:60, :80]
    disc = (y - 30) ** 2 + (x - 40) ** 2 < 18**2
    image = (rng.integers(0, 90, (60, 80, 3)) + 120 * disc[..., None]).astype(np.uint8)
    return image, Instances.from_masks(np.stack([np.roll(disc, (4, 5), (0, 1)), np.zeros_like(disc)]))


@pytest.mark.parametrize("params", [CRFParams(), CRFParams.paper(), CRFParams(self_term=False)])
def test_the_masks_are_those_of_shorter_refinements(scene, params):
    image, instances = scene
    trace = trace_instance(image, instances, 0, params, 6)
    for t in (0, 1, 3, 6):
        settings = CRFParams.from_dict({**params.as_dict(), "iterations": t})
        refined = refine(image, instances, settings).mask(0)
        full = np.zeros(instances.image_size, bool)
        full[trace.window(t).slices] = trace.masks[t]
        assert (full == refined).all()


def test_kl_falls_and_the_mask_settles(scene):
    image, instances = scene
    traces = trace_image(image, instances, CRFParams(), 30)
    assert list(traces) == [0]
    trace = traces[0]
    assert trace.kl.shape == (31,)
    assert trace.kl[1] < trace.kl[0]
    assert trace.relative_kl[0] == 1
    assert trace.relative_kl[-1] == 0
    assert trace.settled is not None
    assert 0 < trace.nearly_settled <= trace.settled


def made(masks: list[list[int]]) -> Trace:
    """A trace of rows of pixels."""
    return Trace(np.linspace(0, -1, len(masks)), np.array(masks, bool)[:, None], (0, 0))


def test_when_nothing_changes_any_more():
    settled = made([[1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 1], [1, 0, 1]])
    assert settled.changed.tolist() == [1, 1, 2 - 1, 0]
    assert settled.settled == 3
    assert settled.unsettled.tolist() == [0.5, 1, 0.5, 0, 0]
    assert settled.nearly_settled == 3
    assert made([[1, 0], [1, 0]]).settled == 0
    assert made([[1, 0], [0, 1]]).settled is None
    erased = made([[1, 1], [0, 0], [0, 0]])
    assert erased.unsettled.tolist() == [1, 0, 0]


def test_quantiles_and_tables(tmp_path):
    traces = [
        made([[1, 0], [1, 0], [1, 0], [1, 0]]),
        made([[1, 0], [1, 1], [1, 1], [1, 1]]),
        made([[1, 0], [1, 1], [1, 0], [1, 1]]),
    ]
    courses = [Course.of(f"{k}.jpg", 0, trace) for k, trace in enumerate(traces)]
    found = settling(courses, 3)
    assert found["settled"]["q50"] == 1
    assert found["settled"]["q90"] == np.inf
    write_objects(tmp_path / "objects.csv", courses)
    write_iterations(tmp_path / "iterations.csv", courses)
    objects = list(csv.DictReader((tmp_path / "objects.csv").read_text().splitlines()))
    assert [row["settled"] for row in objects] == ["0", "1", ""]
    rows = list(csv.DictReader((tmp_path / "iterations.csv").read_text().splitlines()))
    assert [float(row["settled_objects"]) for row in rows] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 2 / 3], abs=1e-6)
    assert float(rows[0]["unsettled_q50"]) == 0.5


def test_contact_sheet_shows_the_start_and_every_change(scene):
    image, instances = scene
    trace = trace_instance(image, instances, 0, CRFParams(), 12)
    sheet = contact_sheet(image, instances[0], trace, columns=4, tiles=8)
    assert sheet.dtype == np.uint8
    rows = -(-min(8, 1 + np.count_nonzero(trace.changed)) // 4)
    assert sheet.shape == (rows * 286 + 8, 4 * 248 + 8, 3)
    still = made([[1, 0, 0], [1, 0, 0], [1, 0, 0]])
    alone = contact_sheet(image[:1, :3], Instances.from_masks(np.array([[[1, 0, 0]]], bool)), still)
    assert alone.shape == (286 + 8, 248 + 8, 3)
