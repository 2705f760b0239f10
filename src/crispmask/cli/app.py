"""``crispmask app``: the web page."""

from __future__ import annotations

from typing import Annotated

import typer

from crispmask.cli.console import say, waiting
from crispmask.params import check_number

MaxMegapixels = Annotated[float, typer.Option(min=0.1, metavar="X", help="Refuse larger images.")]
MaxUpload = Annotated[float, typer.Option(metavar="MB", help="Refuse larger files.")]


def limits(max_megapixels: float, max_upload: float) -> tuple[int, int]:
    """The pixels and the bytes that a server takes at most, checked."""
    check_number("--max-megapixels", max_megapixels, 0.1, 1e5)
    check_number("--max-upload", max_upload, 0.1, 1e6)
    return int(max_megapixels * 1e6), int(max_upload * 1e6)


def app(
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address to listen on; only 127.0.0.1 keeps others out."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 chooses a free one.")] = 7860,
    detector: Annotated[str, typer.Option(metavar="NAME|FILE", help="As for segment.")] = "embedded",
    score: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Lowest score of a detection, which the page can change; by default the detector says which.",
            show_default=False,
        ),
    ] = None,
    max_megapixels: MaxMegapixels = 40,
    max_upload: MaxUpload = 40,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Refine masks interactively on a web page (extra 'app').

    The page is served by this computer: no image leaves it, and the page loads nothing from the internet.
    """
    if score is not None:
        check_number("--score", score, 0, 1)
    max_pixels, max_bytes = limits(max_megapixels, max_upload)
    with waiting("Starting"):
        from crispmask.app.server import serve

    def ready(address: str) -> None:
        say(f"The page is at {address} (Ctrl+C ends it)")
        if browser:
            typer.launch(address)

    serve(
        host,
        port,
        detector=detector,
        score=score,
        max_pixels=max_pixels,
        max_upload=max_bytes,
        on_ready=ready,
    )
