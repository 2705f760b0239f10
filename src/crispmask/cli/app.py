"""``crispmask app``: the web page on this computer."""

from __future__ import annotations

from typing import Annotated

import typer

from crispmask.cli.console import say, waiting
from crispmask.errors import MissingExtraError
from crispmask.params import DEFAULT_SCORE


def app(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; others than 127.0.0.1 open it to the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 takes a free one.")] = 7860,
    detector: Annotated[str, typer.Option(metavar="NAME|FILE", help="What finds the objects.")] = "embedded",
    score: Annotated[
        float, typer.Option(min=0, max=1, metavar="X", help="Where the slider for the least score starts.")
    ] = DEFAULT_SCORE,
    max_megapixels: Annotated[float, typer.Option(min=0.1, metavar="X", help="Refuse larger photos.")] = 40,
    max_upload: Annotated[float, typer.Option(min=0.1, metavar="MB", help="Refuse larger uploads.")] = 40,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Refine masks by hand and eye on a web page of this computer (extra 'app').

    Photos never leave the computer, and nothing is fetched from elsewhere.
    """
    with waiting("Starting"):
        try:
            import gradio  # noqa: F401 - says which extra is missing before anything is loaded
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "gradio", "app") from None
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
        max_pixels=int(max_megapixels * 1e6),
        max_upload=int(max_upload * 1e6),
        on_ready=ready,
    )
