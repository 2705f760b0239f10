"""Long commands, killed at random moments and repeated until they end: the files must be those of an undisturbed run.

By hand: ``python -m tests.kills --kills 100 --seed 1``, or with the names of cases for these alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = 6

# `learn` with small crops and one setting, as its own tests run it.
_SMALL = """
from crispmask.training.refiner import batches, settings
batches.SIZES, batches.SIZE_CHANCES = (64,), (1.0,)
settings.GRID, settings.TEMPERATURES = {"theta_alpha": (0.05,)}, (1.0,)
"""
_MAIN = "from crispmask.cli import main; main()"


@dataclass(frozen=True)
class Case:
    """A command.

    Attributes:
        words: its arguments; ``OUT`` stands for what it writes.
        files: what must be equal, relative to the folder that OUT is in.
        prepare: lines of Python that run before it.
        at_once: how many processes run it at the same time.
    """

    words: Sequence[str]
    files: Sequence[str]
    prepare: str = ""
    at_once: int = 1


def _segment(at_once: int = 1) -> Case:
    words = ["segment", "people", "-o", "OUT", "--params", "fixed", "--iterations", "2", "--threads", "1"]
    names = ("results.json", "results_before.json", "images.json", *(f"pictures/{k}.jpg" for k in range(IMAGES)))
    return Case(words, [f"OUT/{name}" for name in names], at_once=at_once)


_DATA = "-a truth.json -i images"
_LEARN = "--init none --samples 2 --batch-size 1 --precision float16 --held-out 0.4 --measured 10 --workers 0"
_TRAIN = "--init imagenet --steps 6 --save-every 1 --batch-size 1 --size 96 --channels 8 --workers 0 --device cpu"
CASES = {
    "segment": _segment(),
    "segment twice": _segment(at_once=2),
    "refine": Case(
        [
            "refine",
            "found.json",
            "-i",
            "images",
            "-a",
            "truth.json",
            "-o",
            "OUT.json",
            "--params",
            "fixed",
            "--threads",
            "1",
        ],
        ["OUT.json"],
    ),
    "tune": Case(
        f"tune {_DATA} -r found.json -o OUT --objective iou --folds 2 --grid theta_beta=3,30 --threads 1".split(),
        [f"OUT/{name}" for name in ("best.toml", "scores.csv", "summary.json")],
    ),
    "learn": Case(
        f"learn {_DATA} -r found.json -o OUT --threads 1 {_LEARN}".split(),
        ["OUT/params.toml", "OUT/network.onnx"],
        _SMALL,
    ),
    "train": Case(f"train {_DATA} -o OUT {_TRAIN}".split(), ["OUT/model.onnx"]),
}


def make_data(folder: Path) -> None:
    """Photos of people, and bright discs with annotations and with detections that are two pixels off."""
    from crispmask.coco import instances_to_results
    from crispmask.instances import Instances
    from crispmask.samples import sample_images

    rng = np.random.default_rng(0)
    (folder / "people").mkdir()
    (folder / "images").mkdir()
    photos = [Image.open(path).convert("RGB").resize((256, 256)) for path in sample_images()]
    images, annotations, results = [], [], []
    for k in range(IMAGES):
        photo = photos[k % len(photos)].rotate(k)
        photo.save(folder / "people" / f"{k}.png")
        y, x = np.mgrid[:60, :60]
        truth = (y - 30) ** 2 + (x - 28) ** 2 < (14 + k) ** 2
        image = np.where(truth[..., None], (210, 190, 80), (50, 60, 90)) + rng.normal(0, 4, (60, 60, 3))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / "images" / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "height": 60, "width": 60})
        record = instances_to_results(Instances.from_masks(truth), k)[0]
        annotations.append({**record, "id": k + 1, "iscrowd": 0, "area": int(truth.sum())})
        results += instances_to_results(Instances.from_masks(np.roll(truth, 2, 0), scores=[0.9]), k)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "found.json").write_text(json.dumps(results))


def check(name: str, kills: int, seed: int, say: Callable[[str], None] = lambda line: None) -> None:
    """Run a case undisturbed, then kill it `kills` times; an AssertionError where a byte is lost."""
    case, rng = CASES[name], np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_data(folder)
        _end(_start(case, folder, "warm"))  # compiles what it needs
        begun = time.monotonic()
        _end(_start(case, folder, "whole"))
        seconds = time.monotonic() - begun
        done = 0
        while done < kills:
            shutil.rmtree(folder / "killed", ignore_errors=True)
            for path in folder.glob("killed*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            while done < kills:  # until a run is quicker than its end
                running = [_start(case, folder, "killed") for _ in range(case.at_once)]
                time.sleep(rng.uniform(0.2, 1.0) * seconds)
                if any(process.poll() is not None for process in running):
                    say(f"{name}: ended before it was killed")
                    done += case.at_once > 1
                    break
                for process in running:
                    process.kill()
                    process.communicate()
                done += 1
                if rng.random() < 0.5:
                    break
            for process in running:
                _end(process, may_refuse=True)
            _end(_start(case, folder, "killed"))
            for file in case.files:
                whole, killed = (folder / file.replace("OUT", side) for side in ("whole", "killed"))
                assert killed.read_bytes() == whole.read_bytes(), f"{name}: {file} differs"
            left = [path.name for path in folder.rglob("*") if path.suffix == ".part" or "unfinished" in path.name]
            assert not left, f"{name}: {left} are left"
            say(f"{name}: {done} of {kills} kills, the same bytes")


def _start(case: Case, folder: Path, output: str) -> subprocess.Popen[str]:
    words = [word.replace("OUT", output) for word in case.words]
    return subprocess.Popen(
        [sys.executable, "-c", case.prepare + _MAIN, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _end(process: subprocess.Popen[str], may_refuse: bool = False) -> None:
    """Wait for a process; it must have succeeded, or where it may, been killed or refused by one that runs."""
    output, _ = process.communicate(timeout=600)
    assert "Traceback" not in output, output
    if not (may_refuse and (process.returncode < 0 or "is in use by" in output)):
        assert process.returncode == 0, output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--kills", type=int, default=100, help="of each case")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    for name in chosen.cases:
        check(name, chosen.kills, chosen.seed, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
