"""``crispmask cutout``: images in, their objects with transparent backgrounds out."""

from __future__ import annotations

from typing import Annotated

import typer

from crispmask.cli.console import waiting
from crispmask.cli.crf import Restart, Threads
from crispmask.cli.models import ensure_weights
from crispmask.cli.segment import (
    ClassNames,
    DetectorName,
    Device,
    Overwrite,
    Score,
    Sources,
    Tiles,
    conclude,
    segment_locally,
)


def cutout(
    sources: Sources,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results.")
    ] = "crispmask-cutouts",
    detector: DetectorName = "embedded",
    score: Score = None,
    classes: ClassNames = None,
    tiles: Tiles = 1,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Pictures of the image's size, rather than cut to the object.")
    ] = False,
    together: Annotated[bool, typer.Option("--together", help="One picture of all objects of an image.")] = False,
    threads: Threads = None,
    device: Device = None,
    restart: Restart = False,
    overwrite: Overwrite = False,
) -> None:
    """Cut the objects out of images: PNG files with a transparent background, soft edges and no halo.

    Writes DIR/cutouts/IMAGE/1-person.png and so on, and the masks as crispmask segment does: results.json,
    results_before.json, images.json, provenance.json.
    """
    ensure_weights(detector)
    with waiting("Loading the detector"):
        from crispmask.detectors import load_detector
        from crispmask.pipeline import CutoutStyle, Settings
        from crispmask.pipeline.segmenter import refining_on

        settings, place = Settings(score=score, classes=classes, tiles=tiles), refining_on(device)
        loaded = load_detector(detector, threads=threads or 0, device=device)
    report, seconds = segment_locally(
        sources,
        output,
        loaded,
        settings,
        pictures=False,
        cutouts=CutoutStyle(full_size, together),
        threads=threads,
        device=place,
        restart=restart,
        overwrite=overwrite,
    )
    conclude(report, seconds, output, cutouts=True)
