"""The command ``crispmask``: its verbs, in the order in which a user needs them, and how errors end it."""

from __future__ import annotations

import atexit
import errno
import io
import os
import sys
import threading
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from crispmask._version import __version__
from crispmask.cli.app import app as open_app
from crispmask.cli.console import complain, prose
from crispmask.cli.converge import converge
from crispmask.cli.convert import convert
from crispmask.cli.cutout import cutout
from crispmask.cli.demo import demo
from crispmask.cli.doctor import doctor
from crispmask.cli.evaluate import evaluate
from crispmask.cli.learn import learn
from crispmask.cli.models import models
from crispmask.cli.refine import refine
from crispmask.cli.report import report
from crispmask.cli.segment import segment
from crispmask.cli.serve import serve
from crispmask.cli.train import train
from crispmask.cli.tune import tune
from crispmask.errors import CrispmaskError

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class _Group(TyperGroup):
    """Ends with one sentence on stderr and exit code 1 where crispmask or the operating system raises an error."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CrispmaskError as error:
            complain(str(error))
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has ended: so does Typer, without a message
                raise
            complain(_sentence(error))
        except MemoryError:
            complain("there is not enough memory for this: use smaller images, or fewer at once")
        raise typer.Exit(1)


def _sentence(error: OSError) -> str:
    """What the operating system refused, and what to do where that is known."""
    reason = error.strerror or str(error)
    text = f"{error.filename}: {reason}" if error.filename else reason
    if error.errno in _FULL:
        return f"{text}: make room, then repeat the command; it goes on where it stopped"
    return f"{text}: choose another folder for what is written" if error.errno == errno.EROFS else text


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
for verb in (demo, segment, refine, cutout, evaluate, report, tune, converge, convert, train, learn, open_app, doctor):
    app.command(help=prose(verb), no_args_is_help=verb not in (demo, open_app, doctor))(verb)
app.add_typer(serve)
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
        # Characters of file names that the terminal's encoding lacks are escaped; they would end the run otherwise.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not sys.warnoptions:
        # Pillow's warnings about large images and damaged EXIF blocks are for programmers; real problems raise.
        warnings.simplefilter("ignore")
    code: Any = None
    try:
        app()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as end:
        code = end.code
    if code == INTERRUPTED and threading.active_count() > 1:
        # Python would wait for threads that compute; what is done is in the journal. Ray's processes end with its exit
        # function, which os._exit would leave out.
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(INTERRUPTED)
    if code is not None:
        sys.exit(code)
