"""``crispmask refine``: the masks of a results file pulled onto the real edges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crispmask.cli.cluster import Address, Engine, PhotosPerFile, on_ray, only
from crispmask.cli.console import complain, count, say
from crispmask.cli.crf import PANEL, Joint, Params, Restart, Threads, kept_line, read_params
from crispmask.cli.options import options_from
from crispmask.cli.resumable import Resumable
from crispmask.params import CRFParams

if TYPE_CHECKING:
    from crispmask.pipeline import RefineReport


@options_from(CRFParams, "overrides", PANEL)
def refine(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.json", help="COCO results of any detector, .gz or not.")],
    images: Annotated[Path, typer.Option("-i", "--images", metavar="DIR", help="Folder of the photos.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.json", help="Results to write; .gz packs.")],
    overrides: dict[str, Any],
    annotations: Annotated[
        Path | None,
        typer.Option(
            "-a",
            "--annotations",
            metavar="GT.json",
            help="COCO annotation file that gives the photos' names. Else images.json beside the results, or COCO's "
            "own naming (000000000139.jpg).",
            show_default=False,
        ),
    ] = None,
    score: Annotated[float, typer.Option(metavar="X", help="Leave out results below this score, 0 to 1.")] = 0.0,
    params: Params = "learned",
    joint: Joint = False,
    threads: Threads = None,
    restart: Restart = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out results that cannot be refined, say why, and go on.")
    ] = False,
    engine: Engine = "local",
    address: Address = None,
    photos_per_file: PhotosPerFile = None,
) -> None:
    """Refine the masks of any detector's COCO results.

    Writes the same results in the same order with other masks; all their other fields, the detector's boxes among
    them, are kept. OUT.provenance.json tells where they come from. A run that was interrupted goes on where it
    stopped.
    """
    chosen = read_params(params, overrides)
    if engine == "ray":
        only("local", threads=threads)
        from crispmask.pipeline import Settings
        from crispmask.pipeline.ray import refine_on_ray

        settings = Settings(params=chosen, score=score, joint=joint)
        done, seconds = on_ray(
            lambda show: refine_on_ray(
                results,
                images,
                output,
                settings,
                address=address,
                annotations=annotations,
                photos_per_file=photos_per_file or 100,
                restart=restart,
                skip_bad=skip_bad,
                on_bad=complain,
                on_progress=show,
            ),
            "photo",
            settings,
            address,
        )
        conclude(done, output, score, seconds, told=annotations is not None)
        return
    only("ray", address=address, photos_per_file=photos_per_file)
    with Resumable("object", "Checking the results") as work:
        from crispmask.pipeline import Settings, refine_results

        settings = Settings(params=chosen, score=score, joint=joint)
        report = refine_results(
            results,
            images,
            output,
            settings,
            annotations=annotations,
            threads=threads,
            restart=restart,
            skip_bad=skip_bad,
            on_bad=complain,
            on_progress=lambda step: work.show(step, "Refining", settings),
        )
    conclude(report, output, score, work.seconds, told=annotations is not None)


def conclude(report: RefineReport, output: Path, score: float, seconds: float, *, told: bool) -> None:
    """Say what was done, and exit with 1 where records were left out; `told`: the user named the annotations."""
    say(f"{count(report.records, 'object')} in {count(report.photos, 'photo')}, {seconds:.1f} s.")
    if report.kept:
        say(f"{kept_line(report.kept, report.records)}.")
    if report.below:
        say(f"Left out, with a score below {score:g}: {report.below}.")
    if report.named_by is not None and not told:
        say(f"Photos named by {report.named_by}.")
    say(f"Results    {output}")
    if report.skipped:
        say(f"{report.skipped} of {report.records + report.below + report.skipped} results could not be used.")
        raise typer.Exit(1)
