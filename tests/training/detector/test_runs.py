"""Whole runs: killed and resumed, stopped early, shared by two processes."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")
pytest.importorskip("torchvision", reason="extra torch is not installed")
pytest.importorskip("efficientnet_lite_pytorch", reason="extra torch is not installed")

from crispmask.errors import DataError, ParamsError  # noqa: E402
from crispmask.training.detector.config import TrainingConfig  # noqa: E402
from crispmask.training.detector.data import TrainingSet, read_data  # noqa: E402
from crispmask.training.detector.loop import train  # noqa: E402
from crispmask.training.detector.validation import Validation  # noqa: E402

CONFIG = TrainingConfig(steps=4, batch_size=1, warmup=2, channels=16, size=128, evaluate_every=2)

KILLED = """
    import json, os, sys
    from pathlib import Path
    from crispmask.training.detector.config import TrainingConfig
    from crispmask.training.detector.data import read_data
    from crispmask.training.detector.loop import train
    from crispmask.training.detector.validation import Validation

    annotations, images, output = map(Path, sys.argv[1:4])
    data = read_data([(annotations, images)])

    def kill(step, losses):
        if step == 3:
            os.kill(os.getpid(), int(sys.argv[5]))

    config = TrainingConfig(**json.loads(sys.argv[4]))
    validation = Validation.read(Path(sys.argv[6]), images, data.names)
    train(data, output, config, validation=validation, workers=0, on_step=kill)
"""

SHARED = """
    import hashlib, json, os, sys
    from pathlib import Path
    from crispmask.training.detector import loop
    from crispmask.training.detector.config import TrainingConfig
    from crispmask.training.detector.data import read_data

    annotations, images, output = map(Path, sys.argv[1:4])
    seen, advance = [], loop._Run.advance

    def watched(self, images, targets):
        losses = advance(self, images, targets)
        weights = b"".join(p.detach().numpy().tobytes() for p in self.model.parameters())
        seen.append([[float(image.mean()) for image in images], hashlib.sha256(weights).hexdigest(), losses])
        return losses

    loop._Run.advance = watched
    data = read_data([(annotations, images)])
    loop.train(data, output, TrainingConfig(**json.loads(sys.argv[4])), workers=0)
    (output / f"seen{os.environ['RANK']}.json").write_text(json.dumps(seen))
"""


def start(script: str, *arguments: object, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)], env={**os.environ, **environment}
    )


@pytest.fixture(scope="module")
def data(tiny_coco):
    return read_data([tiny_coco])


@pytest.fixture(scope="module")
def validation(tiny_coco, data, tmp_path_factory):
    """The first image."""
    content = json.loads(tiny_coco[0].read_text())
    content["images"], content["annotations"] = content["images"][:1], content["annotations"][:1]
    path = tmp_path_factory.mktemp("validation") / "one.json"
    path.write_text(json.dumps(content))
    return Validation.read(path, tiny_coco[1], data.names)


def rows(path: Path) -> list[list[str]]:
    """A table without the seconds."""
    with path.open(newline="") as file:
        return [row[:-1] if path.name == "log.csv" else row for row in csv.reader(file)]


def test_a_killed_run_goes_on_to_the_same_bits(tiny_coco, data, validation, tmp_path):
    kill, settings = getattr(signal, "SIGKILL", signal.SIGTERM), json.dumps(asdict(CONFIG))
    child = start(KILLED, *tiny_coco, tmp_path / "killed", settings, int(kill), validation.dataset.path)
    told: list[tuple[int, dict[str, float]]] = []
    best = train(
        data, tmp_path / "whole", CONFIG, validation=validation, workers=0, on_evaluation=lambda *a: told.append(a)
    )
    assert child.wait() != 0
    assert torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)["step"] == 2
    assert len(rows(tmp_path / "killed" / "log.csv")) == 4  # one row more than the checkpoint knows
    train(data, tmp_path / "killed", CONFIG, validation=validation, workers=0)

    for name in ("checkpoint.pt", best.name):
        a, b = (torch.load(tmp_path / run / name, weights_only=True) for run in ("whole", "killed"))
        assert a["step"] == b["step"]
        for part in {"model", "average"} & a.keys():
            assert all(torch.equal(a[part][key], b[part][key]) for key in a[part])
    assert a.keys() == {"average", "step", "names", "config", "validation"}
    whole, killed = (torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "killed"))
    assert whole["evaluations"] == killed["evaluations"]
    for k, moments in whole["optimizer"]["state"].items():
        assert all(torch.equal(moments[key], killed["optimizer"]["state"][k][key]) for key in moments)
    for name in ("log.csv", "validation.csv"):
        assert rows(tmp_path / "whole" / name) == rows(tmp_path / "killed" / name)
    assert [step for step, _ in told] == [2, 4]
    assert (tmp_path / "whole" / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_a_run_without_progress_stops_early(data, validation, tmp_path):
    config = dataclasses.replace(CONFIG, steps=20, evaluate_every=1, patience=2, learning_rate=0)
    steps: list[int] = []
    for _ in range(2):  # the second time there is nothing left to do
        best = train(
            data, tmp_path, config, validation=validation, workers=0, on_step=lambda step, losses: steps.append(step)
        )
        assert steps == [1, 2, 3]
    assert torch.load(best, weights_only=True)["step"] == 1  # the first of equals
    train(data, tmp_path, dataclasses.replace(config, patience=3), validation=validation, workers=0)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4


def test_two_processes_share_the_samples_and_keep_the_same_weights(tiny_coco, data, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = dataclasses.replace(CONFIG, steps=2, batch_size=2)
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    group["OMP_NUM_THREADS"] = "1"
    running = [
        start(SHARED, *tiny_coco, tmp_path, json.dumps(asdict(config)), RANK=r, LOCAL_RANK=r, **group) for r in "01"
    ]
    assert [process.wait() for process in running] == [0, 0]
    first, second = (json.loads((tmp_path / f"seen{r}.json").read_text()) for r in (0, 1))
    assert [weights for _, weights, _ in first] == [weights for _, weights, _ in second]
    assert [losses for *_, losses in first] == [losses for *_, losses in second]  # the mean over both
    assert first[0][1] != first[1][1]  # they do learn
    samples = TrainingSet(data.images, seed=0, batch_size=2, size=128, length=4, focus={1, 2})
    together = [mean for a, b in zip(first, second, strict=True) for mean in a[0] + b[0]]
    np.testing.assert_allclose(together, [float(samples[k][0].mean()) for k in range(4)], rtol=1e-6)
    assert len(rows(tmp_path / "log.csv")) == 3


def test_a_batch_that_cannot_be_shared(data, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ParamsError, match="cannot be shared by 2 processes"):
        train(data, tmp_path / "run", CONFIG)


def test_validation_sets_that_say_nothing(tiny_coco, data, validation, tmp_path):
    assert validation.labels == {1: 1, 2: 2}
    assert Validation.read(*tiny_coco, data.names, ["square"]).labels == {2: 2}
    with pytest.raises(DataError, match="has no object of square to validate on"):
        Validation.read(validation.dataset.path, tiny_coco[1], data.names, ["square"])
    with pytest.raises(DataError, match=r"1\.png does not exist"):
        Validation.read(validation.dataset.path, tmp_path, data.names)


def test_half_precision_needs_a_gpu(data, tmp_path):
    with pytest.raises(ParamsError, match="fp16 needs a GPU"):
        train(data, tmp_path / "run", dataclasses.replace(CONFIG, precision="fp16"))


def test_mixed_precision_learns_the_same(data, tmp_path):
    losses: dict[str, list[float]] = {}
    for precision in ("no", "bf16"):
        config = dataclasses.replace(CONFIG, steps=1, precision=precision)
        found = losses.setdefault(precision, [])
        train(data, tmp_path / precision, config, workers=0, on_step=lambda _, v, found=found: found.extend(v.values()))
    np.testing.assert_allclose(losses["bf16"], losses["no"], rtol=0.1, atol=0.05)
    assert losses["bf16"] != losses["no"]
