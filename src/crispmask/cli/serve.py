"""``crispmask serve``: refinement inside the tools in which people label."""

from __future__ import annotations

from typing import Annotated

import typer

from crispmask.cli.app import MaxMegapixels, MaxUpload, limits
from crispmask.cli.console import note, prose, say, waiting
from crispmask.cli.crf import Gated, Params, read_params
from crispmask.errors import ParamsError
from crispmask.params import check_number

serve = typer.Typer(name="serve", help="Refine masks inside the tools in which people label.", no_args_is_help=True)


@serve.callback()
def _group() -> None:
    """One verb alone would take the group's place."""


def label_studio(
    url: Annotated[
        str, typer.Option("--url", metavar="URL", envvar="LABEL_STUDIO_URL", help="Address of Label Studio.")
    ] = "http://localhost:8080",
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address to listen on; any but 127.0.0.1 needs a password, see below."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 chooses a free one.")] = 9090,
    params: Params = "learned",
    gate: Gated = None,
    tolerance: Annotated[
        float, typer.Option(metavar="PX", help="Polygons: highest distance of a corner that is left out, pixels.")
    ] = 1.0,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A server in a private network that photos may come from, besides Label Studio. Repeatable.",
            show_default=False,
        ),
    ] = None,
    max_megapixels: MaxMegapixels = 40,
    max_upload: MaxUpload = 40,
) -> None:
    """Serve a machine learning backend for Label Studio (extra 'app').

    Brush, polygon and rectangle regions come in, refined brush or polygon regions go out, as predictions or while
    somebody draws with a smart tool.

    LABEL_STUDIO_API_KEY is a personal access token of Label Studio, with which uploaded photos are fetched. Where
    BASIC_AUTH_USER and BASIC_AUTH_PASS are set, Label Studio must give this user and this password.
    """
    from os import environ

    check_number("--tolerance", tolerance, 0, 100)
    max_pixels, max_bytes = limits(max_megapixels, max_upload)
    user, secret = environ.get("BASIC_AUTH_USER", ""), environ.get("BASIC_AUTH_PASS", "")
    if bool(user) != bool(secret):
        raise ParamsError("set both of BASIC_AUTH_USER and BASIC_AUTH_PASS, or none")
    with waiting("Starting"):
        from crispmask.app.server import LOOPBACK, check_installed, run

        check_installed()
        if host not in LOOPBACK and not user:
            raise ParamsError(
                f"{host} can be reached from the network: set BASIC_AUTH_USER and BASIC_AUTH_PASS, and give both to "
                "Label Studio"
            )
        from crispmask.app.label_studio import Backend, make_app
        from crispmask.app.remote import Photos
        from crispmask.pipeline import Settings
        from crispmask.pipeline.settings import prepare

        photos = Photos(url, environ.get("LABEL_STUDIO_API_KEY", ""), max_bytes, allow_host or ())
        chosen = read_params(params, {}, gate)
        password = (user, secret) if user else None
        backend = Backend(photos, chosen, max_pixels, tolerance, password, note)
        prepare(Settings(chosen))  # Label Studio does not wait for the first prediction as long as compiling can take

    def ready(address: str) -> None:
        say(f"Label Studio connects to {address} (Ctrl+C ends it)")
        if not photos.token:
            note("No LABEL_STUDIO_API_KEY is set: photos that were uploaded to Label Studio cannot be fetched.")

    run(make_app(backend, host), host, port, ready)


serve.command("label-studio", help=prose(label_studio))(label_studio)
