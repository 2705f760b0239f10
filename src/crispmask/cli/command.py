"""The command, its verbs in the order of their first use, and how errors end it."""

from __future__ import annotations

import errno
import io
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from crispmask._version import __version__
from crispmask.cli.app import app as open_app
from crispmask.cli.console import complain
from crispmask.cli.converge import converge
from crispmask.cli.convert import convert
from crispmask.cli.demo import demo
from crispmask.cli.doctor import doctor
from crispmask.cli.evaluate import evaluate
from crispmask.cli.learn import learn
from crispmask.cli.models import models
from crispmask.cli.refine import refine
from crispmask.cli.report import report
from crispmask.cli.segment import segment
from crispmask.cli.train import train
from crispmask.cli.tune import tune
from crispmask.errors import CrispmaskError


class _Group(TyperGroup):
    """Ends with one sentence where crispmask or the operating system refuses something."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CrispmaskError as error:
            complain(str(error))
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe went away: Typer ends quietly
                raise
            complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except MemoryError:
            complain("there is not enough memory for this: use smaller photos or fewer of them at once")
        raise typer.Exit(1)


app = typer.Typer(
    name="crispmask",
    help="Coarse instance masks in, crisp ones out.",
    epilog="Start with: [bold]crispmask demo[/bold]",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (demo, segment, refine, evaluate, report, tune, converge, convert, train, learn, open_app, doctor):
    # Typer keeps the line breaks of a docstring's later paragraphs, whatever the width of the terminal.
    prose = "\n\n".join(" ".join(part.split()) for part in (verb.__doc__ or "").split("\n\n"))
    app.command(help=prose, no_args_is_help=verb not in (demo, open_app, doctor))(verb)
app.add_typer(models)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crispmask {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the ``crispmask`` command."""
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal's encoding lacks is shown escaped rather than ending the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not sys.warnoptions:
        # Pillow's remarks on large photos and odd EXIF blocks are for programmers; what matters raises.
        warnings.simplefilter("ignore")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
