from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from crispmask import __version__
from crispmask.errors import CrispmaskError

VERBS = ["demo", "segment", "cutout", "evaluate", "report", "tune", "converge", "train", "doctor"]
HEAVY = ("numpy", "numba", "torch", "onnxruntime", "supervision", "scipy", "PIL", "faster_coco_eval")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "crispmask", *arguments], capture_output=True, text=True, check=False)


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"crispmask {__version__}\n", "")


def test_help_lists_the_verbs():
    done = run("--help")
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("verb", VERBS)
def test_every_help(invoke, verb, flag):
    result = invoke(verb, flag)
    assert result.exit_code == 0
    assert f"{verb} [OPTIONS]" in result.stdout


@pytest.mark.parametrize("verb", ["segment", "evaluate", "report", "tune", "converge", "train"])
def test_a_verb_alone_shows_its_help(invoke, verb):
    assert "[OPTIONS]" in invoke(verb).output


def test_help_loads_nothing_heavy():
    code = "import json, sys, crispmask.cli; print(json.dumps([m for m in sys.argv[1:] if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_unknown_verb(invoke):
    result = invoke("segmnt")
    assert result.exit_code == 2
    assert "segment" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (CrispmaskError("it is\n  wrong"), "it is wrong"),
        (PermissionError(errno.EACCES, "Permission denied", "out/results.json"), "out/results.json: Permission denied"),
        (OSError("disk trouble"), "disk trouble"),
        (MemoryError(), "there is not enough memory for this: use smaller images, or fewer at once"),
    ],
)
def test_errors_become_one_sentence(monkeypatch, refused, error, sentence):
    def fail() -> None:
        raise error

    monkeypatch.setattr("crispmask.detectors.load_detector", fail)
    assert refused("demo") == sentence


@pytest.mark.parametrize("encoding", ["ascii:strict", "cp1252:strict", "utf-8:strict"])
def test_names_that_the_terminal_cannot_show(encoding):
    """A surrogate stands for a byte of a file name that is not UTF-8."""
    code = """
        import sys
        from crispmask.cli import command, console
        command.app = lambda: (console.say("写真\\udce9.jpg"), console.complain("写真\\udce9.jpg"))
        command.main()
    """
    lines = "\n".join(line.strip() for line in code.splitlines())
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\\udce9.jpg" in done.stdout
    assert b"\\udce9.jpg" in done.stderr


def test_warnings_of_libraries_are_not_shown():
    code = (
        "import warnings; from crispmask.cli import command; command.app = lambda: warnings.warn('odd'); command.main()"
    )
    for flag, shown in (([], False), (["-W", "default"], True)):
        done = subprocess.run([sys.executable, *flag, "-c", code], capture_output=True, text=True, check=True)
        assert ("odd" in done.stderr) == shown


@pytest.mark.parametrize("what", ["crispmask.detectors.load_detector", "crispmask.cli.command.app"])
@pytest.mark.parametrize("working", [False, True])
def test_interrupt_exits_with_130(what, working, tmp_path):
    """Inside a verb Typer handles it, before and after main does; a thread that works is not waited for."""
    module, name = what.rsplit(".", 1)
    code = f"""
import sys, threading, time, importlib
from crispmask.cli import command
def interrupt(*args, **options):
    if {working}:
        threading.Thread(target=time.sleep, args=(600,)).start()
    raise KeyboardInterrupt
setattr(importlib.import_module({module!r}), {name!r}, interrupt)
sys.argv = ["crispmask", "demo"]
command.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
