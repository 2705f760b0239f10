"""``crispmask refine``: the masks of a results file pulled onto the real edges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crispmask.cli.cluster import Address, Engine, Gpus, ImagesPerFile, on_ray, only
from crispmask.cli.console import complain, count, say
from crispmask.cli.crf import PANEL, Gated, Joint, Params, Restart, Threads, left_alone_line, read_params
from crispmask.cli.options import options_from
from crispmask.cli.resumable import Resumable
from crispmask.params import CRFParams

Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Where to work: cpu, or cuda (needs torch).", show_default=False),
]

if TYPE_CHECKING:
    from crispmask.pipeline import RefineReport


@options_from(CRFParams, "overrides", PANEL)
def refine(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.json", help="COCO results of any detector, .gz or not.")],
    images: Annotated[Path, typer.Option("-i", "--images", metavar="DIR", help="Folder of the images.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT.json", help="Results to write; .gz compresses.")
    ],
    overrides: dict[str, Any],
    annotations: Annotated[
        Path | None,
        typer.Option(
            "-a",
            "--annotations",
            metavar="GT.json",
            help="COCO annotation file that gives the images' names. Else images.json beside the results, or COCO's "
            "own naming (000000000139.jpg).",
            show_default=False,
        ),
    ] = None,
    score: Annotated[float, typer.Option(metavar="X", help="Leave out results below this score, 0 to 1.")] = 0.0,
    params: Params = "learned",
    gate: Gated = None,
    joint: Joint = False,
    threads: Threads = None,
    device: Device = None,
    restart: Restart = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out results that cannot be refined, say why, and go on.")
    ] = False,
    engine: Engine = "local",
    address: Address = None,
    images_per_file: ImagesPerFile = None,
    gpus: Gpus = None,
) -> None:
    """Refine the masks of any detector's COCO results.

    Writes the same results in the same order with other masks; their other fields, such as the detector's boxes, stay
    as they are. OUT.provenance.json says what made them from what. A run that was interrupted continues where it
    stopped.
    """
    chosen = read_params(params, overrides, gate)
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
                images_per_file=images_per_file or 100,
                device=device,
                gpus=gpus,
                restart=restart,
                skip_bad=skip_bad,
                on_bad=complain,
                on_progress=show,
            ),
            "image",
            settings,
            address,
        )
        conclude(done, output, score, seconds, named=annotations is not None)
        return
    only("ray", address=address, images_per_file=images_per_file, gpus=gpus)
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
            device=device,
            restart=restart,
            skip_bad=skip_bad,
            on_bad=complain,
            on_progress=lambda step: work.show(step, "Refining", settings),
        )
    conclude(report, output, score, work.seconds, named=annotations is not None)


def conclude(report: RefineReport, output: Path, score: float, seconds: float, *, named: bool) -> None:
    """Say what was done, and exit with 1 where bad records were left out; `named`: the user named the annotations."""
    say(f"{count(report.records, 'object')} in {count(report.images, 'image')}, {seconds:.1f} s.")
    if report.left_alone:
        say(f"{left_alone_line(report.left_alone, report.records)}.")
    if report.below:
        say(f"Left out, with a score below {score:g}: {report.below}.")
    if report.named_by is not None and not named:
        say(f"Images named by {report.named_by}.")
    say(f"Results    {output}")
    if report.skipped:
        say(f"{report.skipped} of {report.records + report.below + report.skipped} results could not be used.")
        raise typer.Exit(1)
