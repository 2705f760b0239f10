"""Every command and snippet of the README and the documentation, from the files themselves.

A fenced block that cannot run in a small folder says so above: ``<!-- not run: reason -->``, or ``<!-- ci: name -->``
where .ci/run runs it. All of them must parse, and name verbs and options that exist.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main

from crispmask.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?:<!-- (?P<mark>.*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
VERBS = typer.main.get_command(app).commands


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    mark: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, continuations joined, for this environment."""
        lines = self.text.replace("\\\n", " ").replace(".venv/bin/", "").splitlines()
        return [line for line in lines if line.strip()]


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, m.start("text")) + 1, m["language"], m["text"], m["mark"])
        for m in FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks(page)]


def test_nothing_escapes():
    """No block without a language, no indented block, no mark without a reason."""
    for block in BLOCKS:
        assert block.language in ("bash", "python", "json", "text"), f"{block}: {block.language!r}"
        if block.mark:
            kind, _, reason = block.mark.partition(": ")
            assert (kind, bool(reason)) in (("not run", True), ("ci", True)), f"{block}: {block.mark}"
            assert kind == "not run" or f"readme_command {reason}" in (ROOT / ".ci" / "run").read_text(), str(block)
    for page in PAGES:
        bare = FENCE.sub("", page.read_text())
        assert "```" not in bare, page
        assert not re.search(r"^\n {4}\S", bare, re.MULTILINE), f"{page}: an indented block"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("bash", "python", "json")], ids=str)
def test_it_parses(block):
    if block.language == "python":
        compile(block.text, str(block), "exec")
    elif block.language == "json":
        json.loads(block.text)
    else:
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


@pytest.mark.parametrize("block", [b for b in BLOCKS if "crispmask " in b.text and b.language == "bash"], ids=str)
def test_verbs_and_options_exist(block):
    for line in block.commands:
        if line.startswith("python "):
            continue
        words = shlex.split(line, comments=True)
        while "crispmask" in words:
            words = words[words.index("crispmask") + 1 :]
            rest = words[: words.index("&&")] if "&&" in words else words
            if "install" in rest[:1] or not rest:
                continue
            command = VERBS[rest[0]]
            if hasattr(command, "commands"):
                command, rest = command.commands[rest[1]], rest[1:]
            known = {o for parameter in command.params for o in (*parameter.opts, *parameter.secondary_opts)}
            given = {word.strip("[]").split("=")[0] for word in rest[1:] if re.match(r"\[?-{1,2}[a-z]", word)}
            assert given <= known, f"{block}: {rest[0]} has no {sorted(given - known)}"
