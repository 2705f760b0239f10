from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from crispmask.cli.options import options_from
from crispmask.params import CRFParams
from crispmask.training.detector.config import TrainingConfig


@dataclass(frozen=True)
class Config:
    """Example.

    Attributes:
        rate: how fast it goes; the text
            continues here.
        name: [what] it is called.
    """

    rate: float = 0.25
    steps: int = field(default=3, metadata={"help": "how far it goes"})
    name: str = "x"
    warm: bool = True


@pytest.fixture
def run():
    app, got = typer.Typer(rich_markup_mode="rich"), []

    @options_from(Config, "chosen", "Panel")
    def verb(what: Annotated[str, typer.Argument()], chosen: dict, loud: bool = False) -> None:
        """Do it."""
        got.append((what, chosen, loud))

    app.command()(verb)

    def invoke(*arguments: str):
        result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})
        return result, got.pop() if got else None

    return invoke


def test_only_what_was_set_arrives(run):
    assert run("a")[1] == ("a", {}, False)
    assert run("a", "--rate", "2")[1] == ("a", {"rate": 2.0}, False)
    # A value that equals the default counts as set: it may override a file's.
    assert run("a", "--steps", "3", "--loud")[1] == ("a", {"steps": 3}, True)
    assert run("a", "--no-warm", "--name", "y")[1] == ("a", {"warm": False, "name": "y"}, False)


def test_types_are_checked(run):
    assert run("a", "--steps", "1.5")[0].exit_code == 2


def test_help_comes_from_the_dataclass(run):
    text = " ".join(run("--help")[0].stdout.split())
    assert "How fast it goes; the text continues here. [default: 0.25]" in text
    assert "How far it goes. [default: 3]" in text
    assert "[what] it is called. [default: x]" in text
    assert "--no-warm" in text
    assert "Panel" in text


@pytest.mark.parametrize(("verb", "config"), [("segment", CRFParams), ("train", TrainingConfig)])
def test_every_field_is_an_option(invoke, verb, config):
    text = invoke(verb, "--help").stdout
    for item in fields(config):
        assert f"--{item.name.replace('_', '-')} " in text
