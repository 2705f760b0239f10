"""The command line: one file per verb. Heavy packages are imported inside the verbs, so that ``--help`` is quick."""

from __future__ import annotations

from crispmask.cli.command import app, main

__all__ = ["app", "main"]
