"""Every command and snippet of the README and the documentation, from the files themselves.

The fenced blocks of a page are run one after the other in a folder that holds what the pages speak of (`world`): shell
blocks line by line, Python blocks in one namespace. A comment in the line above a fence changes that:

- ``<!-- run with: VERB OPTIONS; ... -->``: run, with these options behind the lines of that verb or script, so that
  what takes long is done on a small scale;
- ``<!-- not run: reason -->``: not run, but parsed, and its verbs and options are looked up;
- ``<!-- ci: name -->``: run by .ci/step, to the letter.

Installing is left to .ci/step everywhere; what is installed must be an extra that exists.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer.main
from typer.testing import CliRunner

from crispmask.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?(?P<fence>`{3,})(?P<language>\w*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
VERBS = typer.main.get_command(app).commands
PARSED = {"json": json.loads, "toml": tomllib.loads, "xml": ElementTree.fromstring}
LONG = {"benchmarks", "layer", "learn", "train", "tune"}  # pages whose commands take more than 20 seconds
INSTALLS = re.compile(r"python3 -m venv \S+|pip install .+")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    kind: str  # of its mark: "", "run with", "not run", "ci"
    mark: str  # what the mark says

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> Iterator[str]:
        """Each command of a shell block, without comment, with the options that its mark adds."""
        added = dict(part.strip().split(" ", 1) for part in self.mark.split(";")) if self.kind == "run with" else {}
        used = set()
        for line in self.text.replace("\\\n", " ").replace(".venv/bin/", "").splitlines():
            for command in re.sub(r"(^|\s)#\s.*", "", line).split(" && "):
                if not command.strip():
                    continue
                for verb in added:
                    if re.search(rf"(crispmask |/){re.escape(verb)}\b", command):
                        command = f"{command} {added[verb]}"
                        used.add(verb)
                yield command.strip()
        assert used == set(added), f"{self}: nothing here is one of {set(added) - used}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for m in FENCE.finditer(text):
        kind, _, mark = (m["mark"] or "").partition(": ")
        yield Block(page, text.count("\n", 0, m.start("text")) + 1, m["language"], m["text"], kind, mark)


BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in BLOCKS if block.language == "bash"]
TO_RUN = {
    page: [b for b in BLOCKS if b.page == page and b.language in ("bash", "python") and b.kind in ("", "run with")]
    for page in PAGES
}


def test_nothing_escapes():
    """No block without a language, no indented block, no mark without a reason."""
    for block in BLOCKS:
        assert block.language in ("bash", "python", "json", "toml", "xml", "docker", "text"), (
            f"{block}: {block.language!r}"
        )
        assert block.kind in ("", "run with", "not run", "ci"), f"{block}: {block.kind}"
        assert bool(block.kind) == bool(block.mark), f"{block}: {block.kind} without a word"
    for page in PAGES:
        bare = FENCE.sub("", page.read_text())
        assert "```" not in bare, page
        assert not re.search(r"^\n {4}\S", bare, re.MULTILINE), f"{page}: an indented block"


def test_what_ci_runs_is_what_the_pages_say():
    script = (ROOT / ".ci" / "step").read_text()
    texts = {block.mark: block.text for block in BLOCKS if block.kind == "ci" and block.page.name == "README.md"}
    assert texts
    for name in texts:
        assert f"readme_command {name}" in script
    for block in BLOCKS:
        assert block.kind != "ci" or block.text == texts[block.mark], f"{block}: not the README's {block.mark}"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language not in ("text", "docker")], ids=str)
def test_it_parses(block):
    if block.language == "python":
        compile(block.text, str(block), "exec")
    elif block.language == "bash":
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    else:
        PARSED[block.language](block.text)


@pytest.mark.parametrize(
    "block", [block for block in SHELL if "crispmask" in block.text or "python" in block.text], ids=str
)
def test_verbs_options_and_extras_exist(block):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in block.commands:
        words = shlex.split(line)
        if INSTALLS.fullmatch(line):
            wanted = re.search(r"(?:crispmask|\.)\[(.*?)\]", line)
            assert set(wanted[1].split(",") if wanted else []) <= set(extras), f"{block}: {line}"
        elif words[0] == "python":
            source = (ROOT / words[1]).read_text()
            assert all(f'"{word}"' in source for word in words if word.startswith("--")), f"{block}: {line}"
        elif "crispmask" in words and words[:2] != ["docker", "build"]:
            verb, *rest = words[words.index("crispmask") + 1 :]
            command = VERBS[verb]
            if hasattr(command, "commands"):
                command = command.commands[rest[0]]
            known = {o for parameter in command.params for o in (*parameter.opts, *parameter.secondary_opts)}
            given = {word.strip("[]").split("=")[0] for word in rest if re.match(r"\[?-{1,2}[a-z]", word)}
            assert given <= known, f"{block}: {verb} has no {sorted(given - known)}"


def marks(page: Path) -> list[pytest.MarkDecorator]:
    uses_curl = any("curl " in block.text for block in TO_RUN[page] if block.language == "bash")
    return [*[pytest.mark.needs("curl")] * uses_curl, *[pytest.mark.slow] * (page.stem in LONG)]


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.stem, marks=marks(page)) for page in PAGES if TO_RUN[page]]
)
def test_it_runs(page, world, names, page_server, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    served = ""
    for block in TO_RUN[page]:
        if block.language == "python":
            exec(compile(block.text.replace("http://127.0.0.1:7860", served), str(block), "exec"), names)
            continue
        for command in block.commands:
            if INSTALLS.fullmatch(command):
                continue
            if command.startswith("crispmask app"):
                served = page_server(command)
            elif command.startswith("crispmask ") and not re.search(r"[|<>;$`&]", command):
                in_process(command, block)
            else:
                in_shell(command.replace("http://127.0.0.1:7860", served), block)


def in_process(command: str, block: Block) -> None:
    """The command line as its users get it, without a second of imports for each of many."""
    words = [
        w for word in shlex.split(command) for w in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
    ]
    done = CliRunner().invoke(app, words[1:])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, f"{block}: {command}\n{done.output}"


def in_shell(command: str, block: Block) -> None:
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{block}: {command}\n{done.stdout}{done.stderr}"
