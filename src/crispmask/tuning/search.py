"""The search: measure points batch by batch, and keep the scores of each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from crispmask.errors import DataError
from crispmask.params import CRFParams
from crispmask.refinement import Params, default_params
from crispmask.refinement.solve import LATTICE_PARAMS
from crispmask.tuning.space import Choice, Space, Values, check_space, grid_points, point_of
from crispmask.tuning.study import Study, Trial
from crispmask.tuning.task import Scores, TuningTask, batches

BATCH = 8
"""Points that are measured together: images are read once for all, lattices are shared. A kill loses one batch."""

UNREFINED, LEARNED, START = "unrefined", "learned", "start"
"""What the points are compared with: no refinement, the parameters that ship and that `refine` uses by default, and the
setting that the search begins with."""


@dataclass(frozen=True)
class Step:
    """Progress: images refined so far in this run, of how many; points measured, of how many; the best of them."""

    done: int
    total: int
    points: int
    all_points: int
    best: Trial | None


def search(
    task: TuningTask,
    study: Study,
    space: Space,
    start: CRFParams,
    *,
    trials: int = 100,
    seed: int = 0,
    threads: int | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> None:
    """Measure what is not in the study yet: all points of a grid, or as many as ``trials`` by Optuna's TPE.

    The unrefined detections, the learned parameters and the start are measured first, as references.

    Args:
        task: what is measured.
        study: holds what was measured before, and takes what is measured now.
        space: the tuned parameters; a grid has choices only.
        start: the other parameters, and where the search begins.
        trials: number of points in the end, for TPE.
        seed: of TPE.
        threads: over the images; by default one per processor.
        on_step: called at the start and after each image.

    Raises:
        ParamsError: a parameter that cannot be tuned here.
        DataError, ImageError: images or records that cannot be used.
    """
    check_space(space)
    here = point_of(start, space)  # a point like any other, which the references measure
    measured = [trial.values for trial in study.trials]
    if here is not None and here not in measured:
        measured.append(here)
    if study.method == "grid":
        points = grid_points({name: cast(Choice, part) for name, part in space.items()})
        todo = [point for point in points if point not in measured]
        all_points = len(measured) + len(todo)
    else:
        todo, all_points = [], max(trials, len(measured))
    waiting = all_points - len(measured) + (0 if study.references else 3)
    done = 0

    def tell(images: int) -> None:
        nonlocal done
        done += images
        if on_step:
            best = max(study.trials, key=lambda trial: trial.scores.all, default=None)
            on_step(Step(done, waiting * len(task.image_ids), len(study.trials), all_points, best))

    def measure(settings: Sequence[Params | None]) -> list[Scores]:
        return task.measure(settings, threads=threads, on_image=lambda: tell(len(settings)))

    tell(0)
    if not study.references:
        unrefined, learned, started = measure([None, default_params(), start])
        if math.isnan(started.all):
            raise DataError(
                f"{task.dataset.path} has no annotated object in these images to measure {task.objective} on"
            )
        study.refer({UNREFINED: unrefined, LEARNED: learned, START: started})
    if here is not None and all(trial.values != here for trial in study.trials):
        study.add(here, study.references[START], space)
    if study.method == "grid":
        for batch in batches(todo, BATCH):
            for values, scores in zip(batch, measure([settings_of(start, v) for v in batch]), strict=True):
                study.add(values, scores, space)
        return
    # Proposals that share their lattices are made together, although each one then knows less about the others.
    size = 1 if any(name in LATTICE_PARAMS for name in space) else BATCH
    while len(study.trials) < trials:
        known = len(study.trials)
        # Seeded by the point's number, so that an interrupted search proposes the same points.
        proposed = [study.propose(space, seed + known + k) for k in range(min(size, trials - known))]
        found = measure([settings_of(start, values) for _, values in proposed])
        for (handle, values), scores in zip(proposed, found, strict=True):
            study.tell(handle, values, scores)


def settings_of(start: CRFParams, values: Values) -> CRFParams:
    """The start's parameters with a point's values in their place."""
    return dataclasses.replace(start, **values)
