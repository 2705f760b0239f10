"""``crispmask tune``: the parameters that suit given detections best, and an honest estimate of how good they are."""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from crispmask.cli.console import PREPARING, count, note, out, progress_bar, say, waiting
from crispmask.cli.crf import FixedParams, read_fixed_params
from crispmask.cli.options import options_from
from crispmask.errors import DataError, ParamsError
from crispmask.params import CRFParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crispmask.tuning.outcome import Outcome
    from crispmask.tuning.search import Step
    from crispmask.tuning.space import Space


@options_from(CRFParams, "overrides", "CRF parameters to begin with (each overrides --params)")
def tune(
    annotations: Annotated[
        Path, typer.Option("-a", "--annotations", metavar="GT.json", help="COCO annotation file with the truth.")
    ],
    results: Annotated[
        Path, typer.Option("-r", "--results", metavar="R.json", help="COCO results: the detections, unrefined.")
    ],
    images: Annotated[Path, typer.Option("-i", "--images", metavar="DIR", help="Folder of the photos.")],
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
    folds: Annotated[int, typer.Option(metavar="K", help="Parts of the cross-validation over photos.")] = 5,
    score: Annotated[float, typer.Option(metavar="X", help="Leave out detections below this score, 0 to 1.")] = 0.0,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Use N photos, drawn at random; by default all.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Decides the draw, the folds and the search.")] = 0,
    params: FixedParams = "fixed",
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads; by default one per processor.", show_default=False)
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Drop the points of an earlier run.")] = False,
) -> None:
    """Search the CRF parameters that suit given detections best, with cross-validation (extra 'tune').

    Tries a grid, by default the paper's theta_alpha by theta_beta, or searches more parameters with Optuna. Writes
    best.toml for --params, scores.csv, summary.json and pictures.

    A run that was interrupted goes on where it stopped, and a grid that has grown measures only what is new.
    """
    start = read_fixed_params(params, overrides)
    with waiting("Reading"):
        from crispmask.coco import CocoDataset, read_results
        from crispmask.plots import check_matplotlib
        from crispmask.tuning.outcome import conclude
        from crispmask.tuning.search import search
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
        searched: dict[str, Any] = {"tuned": sorted(space)}
        if method == "tpe":
            searched = {"space": {name: repr(part) for name, part in space.items()}}
        settings = {
            "objective": objective,
            "folds": folds,
            "score": score,
            "limit": limit,
            "seed": seed,
            "results": _checksum(results),
            "annotations": _checksum(annotations),
            **searched,
            **start.as_dict(),
        }
        study = Study(output / "study.db", method, settings, restart)
    say(f"{count(len(task.photos), 'photo')}, {count(task.matches, 'matched object')}, {len(task.folds)} folds.")
    with study:
        if study.trials:
            note(f"Going on with an earlier run, which had measured {count(len(study.trials), 'point')}.")
        _run(search, task, study, space, start, trials=trials, seed=seed, threads=threads)
        outcome = conclude(task, study, start)
    _report(outcome, list(space), method, output)


def read_space(method: str, grid: list[str], ranges: list[str], start: CRFParams) -> Space:
    """The tuned parameters of the options ``--grid`` and ``--range``, or the default ones."""
    from crispmask.tuning import space as spaces

    if method == "grid" and ranges:
        raise ParamsError("--range is for --method tpe: give a grid its values with --grid NAME=VALUE,VALUE,...")
    parsed: list[tuple[str, Any]] = [*map(spaces.parse_choice, grid), *map(spaces.parse_range, ranges)]
    space: Space = dict(parsed)
    if len(space) < len(parsed):
        names = [name for name, _ in parsed]
        twice = next(name for name in names if names.count(name) > 1)
        raise ParamsError(f"{twice} is given twice: name each parameter once")
    space = space or (spaces.default_grid(start) if method == "grid" else spaces.default_ranges(start))
    spaces.check_space(space)
    return space


def _quiet_optuna() -> None:
    """Its remarks on every point are ours to make. That it is missing is for the study to say."""
    with suppress(ModuleNotFoundError):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _run(search: Any, task: Any, study: Any, space: Space, start: CRFParams, **options: Any) -> None:
    from crispmask.pipeline import Settings, prepare

    with progress_bar("photo") as progress:
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
            note("Interrupted: the same command goes on from here.")
            raise


def _report(outcome: Outcome, names: list[str], method: str, output: Path) -> None:
    """Write the files, and say what was found and how far to believe it."""
    from crispmask.tuning.figures import draw_grid, draw_search
    from crispmask.tuning.outcome import write_params, write_scores, write_summary

    with waiting("Drawing"):
        write_scores(output / "scores.csv", outcome)
        write_params(output / "best.toml", outcome)
        write_summary(output / "summary.json", outcome)
        pictures = (draw_grid if method == "grid" else draw_search)(output, outcome, names)
    _show(outcome)
    say(f"Best          {_words(outcome.best.values)}")
    held_out, unrefined, start = (100 * outcome.mean(name) for name in ("held_out", "unrefined", "start"))
    say(
        f"Expect        {held_out:.2f} %, {held_out - unrefined:+.2f} against no refinement, {held_out - start:+.2f} "
        "against the start: chosen without the photos it is measured on"
    )
    if method == "tpe":
        say(
            "              (though TPE proposed its points in sight of all: measure on other photos before you publish)"
        )
    say(f"Optimism      {100 * outcome.optimism:+.2f}: by how much the best looks better on photos that chose it")
    say(f"Parameters    {output / 'best.toml'}")
    say(f"All points    {output / 'scores.csv'}")
    say(f"Pictures      {', '.join(map(str, pictures)) or 'none: nothing varied'}")
    say(f"Use it:       crispmask segment PHOTOS --params {output / 'best.toml'} -o results")
    say(f"              crispmask refine RESULTS.json --images PHOTOS --params {output / 'best.toml'} -o REFINED.json")


def _show(outcome: Outcome) -> None:
    from rich import box
    from rich.table import Table

    from crispmask.tuning.task import LABELS

    title = f"{LABELS[outcome.objective]}, %".replace("mask AP", "Mask AP")
    table = Table(box=box.SIMPLE_HEAD, title=title[:1].upper() + title[1:], title_style="bold", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in ("photos", "unrefined", "start", "best"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("own choice", justify="right", no_wrap=True)
    table.add_column("which is", overflow="fold")

    def row(label: str, photos: int | None, scores: Sequence[float], choice: dict[str, Any], **style: Any) -> None:
        texts = ["" if photos is None else str(photos), *map(_percent, scores)]
        table.add_row(label, *texts, *[""] * (5 - len(texts)), _choice(outcome, choice), **style)

    everything = (outcome.unrefined.all, outcome.start.all, outcome.best.scores.all)
    row("all", outcome.photos, everything, outcome.best.values, end_section=True)
    for k, fold in enumerate(outcome.folds):
        scores = (fold.unrefined, fold.start, fold.best, fold.held_out)
        row(f"fold {k + 1}", fold.photos, scores, fold.chosen, end_section=k + 1 == len(outcome.folds))
    row("mean of folds", None, [outcome.mean(name) for name in ("unrefined", "start", "best", "held_out")], {})
    out.print(table)


def _choice(outcome: Outcome, values: dict[str, Any]) -> str:
    """The values of a point, or where they are too many, its number in the table of all points."""
    text = ", ".join(map(_short, values.values()))
    if len(text) <= 16:
        return text
    return f"point {[trial.values for trial in outcome.trials].index(values) + 1}"


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items()) or "the start: nothing was better"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"
