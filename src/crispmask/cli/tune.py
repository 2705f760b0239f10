"""``crispmask tune``: the parameters that suit given detections best, and how good they are on other images."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from crispmask.cli._tune_report import show_outcome
from crispmask.cli.console import PREPARING, count, note, progress_bar, say, waiting
from crispmask.cli.crf import FixedParams, Threads, read_fixed_params
from crispmask.cli.evaluate import Annotations
from crispmask.cli.options import options_from
from crispmask.errors import DataError
from crispmask.params import CRFParams

if TYPE_CHECKING:
    from crispmask.tuning.search import Step
    from crispmask.tuning.space import Space


@options_from(CRFParams, "overrides", "CRF parameters to begin with (each overrides --params)")
def tune(
    annotations: Annotations,
    results: Annotated[
        Path, typer.Option("-r", "--results", metavar="R.json", help="COCO results: the detections, unrefined.")
    ],
    images: Annotated[Path, typer.Option("-i", "--images", metavar="DIR", help="Folder of the images.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for what is found.")],
    overrides: dict[str, Any],
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=V,V",
            help="Values of a CRF parameter; repeatable. [dim]\\[default: theta_alpha, theta_beta][/dim]",
        ),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="NAME=LOW:HIGH[:log]", help="Range of a CRF parameter, for tpe; repeatable."),
    ] = None,
    method: Annotated[
        Literal["grid", "tpe"], typer.Option(help="Try every combination, or search with Optuna's TPE.")
    ] = "grid",
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="Points to try in all, for tpe.")] = 100,
    objective: Annotated[
        Literal["ap", "boundary-ap", "iou", "boundary-iou"],
        typer.Option(help="What to maximise: AP, or the mean IoU of matched masks or of their boundaries."),
    ] = "ap",
    folds: Annotated[int, typer.Option(metavar="K", help="Parts of the cross-validation over images.")] = 5,
    score: Annotated[float, typer.Option(metavar="X", help="Leave out detections below this score, 0 to 1.")] = 0.0,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Use N images, drawn at random; by default all.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Decides the draw, the folds and the search.")] = 0,
    params: FixedParams = "fixed",
    threads: Threads = None,
    restart: Annotated[bool, typer.Option("--restart", help="Drop the points of an earlier run.")] = False,
) -> None:
    """Search one setting of the CRF that suits given detections best, with cross-validation (extra 'tune').

    Tries a grid, by default the paper's theta_alpha by theta_beta, or searches more parameters with Optuna, and
    recommends the best setting if it beats the learned parameters, which segment and refine use by default. Writes
    best.toml for --params, scores.csv, summary.json and pictures.

    A run that was interrupted continues where it stopped, and a larger grid measures only the new points.
    """
    start = read_fixed_params(params, overrides)
    with waiting("Reading"):
        from crispmask.coco import CocoDataset, read_results
        from crispmask.plots import check_matplotlib
        from crispmask.tuning.files import write_outcome
        from crispmask.tuning.outcome import conclude
        from crispmask.tuning.search import search
        from crispmask.tuning.space import read_space
        from crispmask.tuning.study import Study
        from crispmask.tuning.task import TuningTask

        check_matplotlib()
        space = read_space(method, grid or [], ranges or [], start)
        if output.exists() and not output.is_dir():
            raise DataError(f"the output {output} is a file: name a folder")
        if not images.is_dir():
            raise DataError(f"there is no image folder {images}")
        dataset = CocoDataset.from_file(annotations)
        task = TuningTask(
            dataset,
            read_results(results),
            images,
            objective,
            folds=folds,
            score=score,
            limit=limit,
            seed=seed,
            source=str(results),
        )
        _quiet_optuna()
        settings = {
            "objective": objective,
            "folds": folds,
            "score": score,
            "limit": limit,
            "seed": seed,
            "results": _checksum(results),
            "annotations": _checksum(annotations),
            **_searched(space, method),
            **start.as_dict(),
        }
        study = Study(output / "study.db", method, settings, restart)
    say(f"{count(len(task.image_ids), 'image')}, {count(task.matches, 'matched object')}, {len(task.folds)} folds.")
    with study:
        if study.trials:
            note(f"Continuing an earlier run, which had measured {count(len(study.trials), 'point')}.")
        _run(search, task, study, space, start, trials=trials, seed=seed, threads=threads)
        outcome = conclude(task, study, start)
    with waiting("Drawing"):
        pictures = write_outcome(outcome, list(space), method, output)
    show_outcome(outcome, method, output, pictures)


def _quiet_optuna() -> None:
    """Without its messages on every point. Where it is missing, the study raises."""
    with suppress(ModuleNotFoundError):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)


def _searched(space: Space, method: str) -> dict[str, Any]:
    """What decides the search; a grid may grow, so that only its names count."""
    from crispmask.refinement import default_params

    if method == "tpe":
        made: dict[str, Any] = {"space": {name: repr(part) for name, part in space.items()}}
    else:
        made = {"tuned": sorted(space)}
    return {**made, "learned": default_params().checksum[:16]}


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _run(search: Any, task: Any, study: Any, space: Space, start: CRFParams, **options: Any) -> None:
    from crispmask.pipeline import Settings, prepare

    with progress_bar("image") as progress:
        bar = progress.add_task(PREPARING, total=None)
        prepare(Settings(params=start))

        def show(step: Step) -> None:
            best = f", best {100 * step.best.scores.all:.2f} %" if step.best else ""
            progress.update(
                bar,
                total=step.total,
                completed=step.done,
                description=f"Point {min(step.points + 1, step.all_points)} of {step.all_points}{best}",
            )

        try:
            search(task, study, space, start, on_step=show, **options)
        except KeyboardInterrupt:
            note("Interrupted: the same command continues from here.")
            raise
