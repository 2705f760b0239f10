from __future__ import annotations

import hashlib

import pytest

import crispmask.detectors
import crispmask.refinement
from crispmask import __version__


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A small file in the place of the embedded model, with its right checksum."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    monkeypatch.setattr("crispmask.detectors.embedded_model_path", lambda: path)
    monkeypatch.setattr("crispmask.detectors.EMBEDDED_SHA256", hashlib.sha256(b"weights").hexdigest())
    return path


def test_sound_installation(invoke, model):
    result = invoke("doctor")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"crispmask:        {__version__} in ")
    assert "checksum ok" in result.stdout
    assert "CPUExecutionProvider" in result.stdout
    assert result.stdout.endswith("No problems found.\n")
    assert result.stderr == ""


def test_damaged_model(invoke, model):
    model.write_bytes(b"weightz")
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "is damaged: its SHA-256 is" in result.stderr
    assert "No problems found" not in result.stdout


def test_missing_model(invoke, model):
    model.unlink()
    result = invoke("doctor")
    assert result.exit_code == 1
    assert f"the embedded model {model} is missing" in result.stderr


def test_damaged_parameters(invoke, model, monkeypatch, tmp_path):
    monkeypatch.setattr("crispmask.refinement.named._SHIPPED", tmp_path / "params.toml")
    crispmask.refinement.default_params.cache_clear()
    result = invoke("doctor")
    crispmask.refinement.default_params.cache_clear()
    assert result.exit_code == 1
    assert f"cannot read {tmp_path / 'params.toml'}" in result.stderr


def test_missing_package(invoke, model, monkeypatch):
    monkeypatch.setattr("crispmask.cli.doctor.PACKAGES", ("numpy", "no-such-package"))
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "the package no-such-package is missing" in result.stderr


def test_warm(invoke, model, monkeypatch):
    warmed = []
    monkeypatch.setattr("crispmask.crf.warmup", lambda: warmed.append(1), raising=False)
    assert "compiled in:" in invoke("doctor", "--warm").stdout
    assert warmed == [1]

    def fail() -> None:
        raise RuntimeError("LLVM is unwell")

    monkeypatch.setattr("crispmask.crf.warmup", fail, raising=False)
    result = invoke("doctor", "--warm")
    assert result.exit_code == 1
    assert result.stderr == "Error: the CRF cannot be compiled: LLVM is unwell\n"


def test_the_installed_model_is_sound():
    path = crispmask.detectors.embedded_model_path()
    assert crispmask.detectors.checksum(path) == crispmask.detectors.EMBEDDED_SHA256
