"""The engines as the command line sees them; a whole run on a cluster is in tests/pipeline/ray/test_nodes.py."""

from __future__ import annotations

import sys

import pytest

from crispmask.samples import sample_images

IMAGE = sample_images()[0]


def test_without_the_extra(refused, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("crispmask.pipeline.ray")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    sentence = refused("segment", IMAGE, "-o", tmp_path / "out", "--engine", "ray")
    assert sentence == "ray is needed for this and is not installed: run pip install 'crispmask[cluster]'"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--address", "auto"], "--address is for --engine ray: leave it out, or choose that engine"),
        (["--images-per-file", 5], "--images-per-file is for --engine ray: leave it out, or choose that engine"),
        (["--no-json"], "--json is for --engine ray: leave it out, or choose that engine"),
        (["--engine", "ray", "--threads", 2], "--threads is for --engine local: leave it out, or choose that engine"),
        (["--engine", "ray", "--pictures"], "--pictures is for --engine local: leave it out, or choose that engine"),
    ],
)
def test_options_of_the_other_engine(refused, tmp_path, options, sentence):
    assert refused("segment", IMAGE, "-o", tmp_path / "out", *options) == sentence
    assert not (tmp_path / "out").exists()


def test_options_of_refine(refused, tmp_path):
    (tmp_path / "r.json").write_text("[]")
    verb = ["refine", tmp_path / "r.json", "--images", tmp_path, "-o", tmp_path / "o.json"]
    assert refused(*verb, "--address", "auto").startswith("--address is for --engine ray")
    assert refused(*verb, "--engine", "ray", "--threads", 2).startswith("--threads is for --engine local")
