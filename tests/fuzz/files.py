"""Doors for single files: images, annotations, results, parameters, and what a run leaves beside its results."""

from __future__ import annotations

import hashlib
import io
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.fuzz.calls import CALLS, RESULTS, SIZE, TRUTH, Case, photo
from tests.fuzz.mutate import VALUES, altered, damaged, text

from crispmask import CRFParams, LearnedParams, evaluate, read_image
from crispmask.coco import CocoDataset, read_results, results_to_instances
from crispmask.pipeline.journal import Journal
from crispmask.pipeline.provenance import describe
from crispmask.refinement.features import FEATURES
from crispmask.refinement.gate import Gate
from crispmask.refinement.named import read_params
from crispmask.refinement.rules import Rules

IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000")
SETTINGS = {"detector": "abc", "score": 0.5, "params": {"theta_alpha": 3.0}}
ENTRIES = [{"name": "a.png", "stamp": [1, 2], "left_alone": "", "record": RESULTS[0]}, {"name": 7, "records": RESULTS}]


@cache
def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "G4":
        Image.fromarray(photo()[..., 0] > 100).save(buffer, "TIFF", compression="group4")
    else:
        Image.fromarray(photo()).save(buffer, kind)
    return buffer.getvalue()


def image(dice: random.Random) -> Case:
    return damaged(encoded(dice.choice((*IMAGE_FORMATS, "G4"))), dice), lambda file, _: read_image(file)


def annotations(dice: random.Random) -> Case:
    return altered_text(TRUTH, dice), lambda file, _: CocoDataset.from_file(file).instances(1, crowds=True)


def results(dice: random.Random) -> Case:
    return altered_text(RESULTS, dice), lambda file, _: results_to_instances(read_results(file), *SIZE)


def scores(dice: random.Random) -> Case:
    def run(file: Path, content: bytes) -> Any:
        truth = file.with_name("truth.json")
        truth.write_bytes(text(TRUTH))
        return evaluate(truth, file).to_dict()

    return altered_text(RESULTS, dice), run


def params(dice: random.Random) -> Case:
    values = dict(CRFParams().as_dict())
    values[dice.choice(list(values))] = dice.choice((*VALUES, dice.random(), dice.randrange(2000)))
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    content = "\n".join(lines).encode()
    return (damaged(content, dice) if dice.random() < 0.6 else content), lambda file, _: read_params(file)


@cache
def _learned() -> tuple[str, ...]:
    """The lines of a file of learned parameters with one tree; no network is run."""
    tree = np.zeros((1, 7), np.int64), np.full((1, 7), 0.5), np.linspace(-1, 1, 8).reshape(1, 8), np.zeros(1, np.int64)
    gate = Gate(Rules(FEATURES, np.array([0.1, 0.2, 0.01, 0.1]), *tree), margin=0.01, near_margin=0.0)
    made = LearnedParams(b"network", CRFParams(theta_beta=4.0, self_term=False), gate, gate)
    return tuple(made._decisive().splitlines())


def learned(dice: random.Random) -> Case:
    lines = list(_learned())
    at = dice.randrange(len(lines))
    name, equals, _ = lines[at].partition(" = ")
    match dice.randrange(4):
        case 0 if equals:
            with_value = dice.choice((*VALUES, dice.random(), [dice.random()] * dice.randrange(20)))
            lines[at] = f"{name} = {json.dumps(with_value)}"
        case 1:
            del lines[at]
        case 2:
            lines.insert(dice.randrange(len(lines)), lines[at])
        case _:
            lines[at] = damaged(lines[at].encode(), dice).decode("latin-1")
    content = "\n".join(lines).encode()

    def run(file: Path, content: bytes) -> Any:
        file.with_name("network.onnx").write_bytes(b"network")
        made = read_params(file)
        if isinstance(made, LearnedParams):
            made.soft_gate.rules.predict(np.full((1, len(FEATURES)), 0.3))
        return made

    return (damaged(content, dice) if dice.random() < 0.3 else content), run


def journal(dice: random.Random) -> Case:
    """A journal; or a provenance file, whose results file has the same name as the journal."""
    lines = [text({"settings": SETTINGS}), *map(text, ENTRIES)]
    at = dice.randrange(4)
    if at == 3:
        own = {"inputs": {"results": {"provenance": {}}}, "outputs": {"x": hashlib.sha256(b"").hexdigest()}}
        return b"provenance\n" + altered_text(own, dice), _provenance
    lines[at] = altered_text(json.loads(lines[at]), dice)
    return b"\n".join([*lines, b""]), _journal


def _journal(file: Path, content: bytes) -> Any:
    if content.startswith(b"provenance\n"):
        return _provenance(file, content)
    with Journal(file, SETTINGS) as found:
        return dict(found)


def _provenance(file: Path, content: bytes) -> Any:
    (file.parent / "x").touch()
    (file.parent / "x.provenance.json").write_bytes(content.removeprefix(b"provenance\n"))
    return describe(file.parent / "x")


def altered_text(value: Any, dice: random.Random) -> bytes:
    """The JSON text of a value in which something is altered; sometimes the text is damaged, too."""
    content = text(altered(value, dice))
    return damaged(content, dice) if dice.random() < 0.3 else content


def warm() -> None:
    """Compile the evaluation."""
    function, good = CALLS["evaluate"]
    function(*good)
