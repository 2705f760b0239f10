"""``crispmask doctor``: checks the installation, and prints what a bug report needs."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from crispmask._version import __version__
from crispmask.cli.console import complain, say, waiting
from crispmask.errors import CrispmaskError

PACKAGES = ("numpy", "numba", "llvmlite", "onnxruntime", "pillow", "scipy", "faster-coco-eval")
OPTIONAL = {
    "torch": "torch",
    "torchvision": "torch",
    "accelerate": "torch",
    "fastapi": "app",
    "ray": "cluster",
    "optuna": "tune",
    "matplotlib": "tune",
}


def doctor(
    warm: Annotated[bool, typer.Option("--warm", help="Also compile the CRF, and print how long that takes.")] = False,
) -> None:
    """Check the installation, and print what a bug report needs.

    The exit code is 1 if something is broken.
    """
    problems: list[str] = []
    for name, value in _facts(problems, warm):
        say(f"{name + ':':<18}{value}")
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)
    say("No problems found.")


def _facts(problems: list[str], warm: bool) -> Iterator[tuple[str, str]]:
    yield "crispmask", f"{__version__} in {Path(__file__).parents[1]}"
    yield "python", f"{platform.python_version()} in {sys.prefix}"
    yield "platform", platform.platform()
    yield "processors", str(os.cpu_count())
    for name in PACKAGES:
        found = _version(name)
        if found is None:
            problems.append(f"the package {name} is missing: run pip install crispmask again")
        yield name, found or "missing"
    for name, extra in OPTIONAL.items():
        yield name, _version(name) or f"not installed (optional: pip install 'crispmask[{extra}]')"
    yield "onnx providers", _providers(problems)
    yield "kernel cache", _cache()
    yield "embedded model", _model(problems)
    yield "parameters", _parameters(problems)
    if warm:
        yield "compiled in", _warm(problems)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _providers(problems: list[str]) -> str:
    from crispmask.runtime import onnx_runtime

    try:
        found = onnx_runtime().get_available_providers()
    except Exception as error:  # a broken native library can raise anything
        problems.append(f"ONNX Runtime cannot be imported: {error}")
        return "unknown"
    return ", ".join(found)


def _cache() -> str:
    """Where Numba keeps the compiled kernels. Without such a folder everything works, but each start compiles again."""
    from crispmask.crf import _numba

    folder = _numba.exp.stats.cache_path
    return (
        f"{folder} (writable)" if folder else "no folder is writable, so each start compiles again: set NUMBA_CACHE_DIR"
    )


def _model(problems: list[str]) -> str:
    from crispmask.detectors import EMBEDDED_SHA256, checksum, embedded_model_path

    path = embedded_model_path()
    if not path.is_file():
        problems.append(f"the embedded model {path} is missing: reinstall crispmask")
        return "missing"
    found = checksum(path)
    size = path.stat().st_size / 1e6
    if found != EMBEDDED_SHA256:
        problems.append(f"the embedded model {path} is damaged: its SHA-256 is {found}, expected {EMBEDDED_SHA256}")
        return f"{size:.1f} MB, wrong checksum"
    return f"{size:.1f} MB, checksum ok ({found[:12]}...)"


def _parameters(problems: list[str]) -> str:
    """The learned parameters of the package, whose network is compared with its checksum."""
    from crispmask.refinement import default_params

    try:
        return f"learned ({default_params().checksum[:12]}...)"
    except CrispmaskError as error:
        problems.append(f"{error}; reinstall crispmask")
        return "damaged"


def _warm(problems: list[str]) -> str:
    started = time.monotonic()
    try:
        with waiting("Compiling the CRF"):
            from crispmask.crf import warmup

            warmup()
    except Exception as error:  # Numba's and LLVM's errors have no common base
        problems.append(f"the CRF cannot be compiled: {error}")
        return "failed"
    return f"{time.monotonic() - started:.1f} s"
