"""`install()` in the parent reaches workers, however they start; each way runs in a program of its own.

The client's module imports pydensecrf at its top, as such modules do, and tells whose class it got.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CLIENT = """
import numpy as np
import pydensecrf.densecrf as dcrf
from pydensecrf.utils import unary_from_labels

def work(seed):
    labels = np.random.default_rng(seed).integers(0, 2, 30)
    crf = dcrf.DenseCRF2D(6, 5, 2)
    crf.setUnaryEnergy(unary_from_labels(labels, 2, 0.7, zero_unsure=False))
    crf.addPairwiseGaussian(sxy=2, compat=3)
    q = np.array(crf.inference(2))
    return type(crf).__module__, round(float(q[0].sum()), 3)
"""
MAIN = """
if __name__ == "__main__":
    import crispmask.pydensecrf
    crispmask.pydensecrf.install()
    crispmask.pydensecrf.warmup([2], [2])
    import client
    {start}
    assert found == [client.work(seed) for seed in range(3)], found
    assert {{module for module, _ in found}} == {{"crispmask.pydensecrf.densecrf"}}, found
    print("equal")
"""
POOL = """from multiprocessing import get_context
    with get_context({method!r}).Pool(2) as pool:
        found = pool.map(client.work, range(3))"""
STARTS = {
    "fork": POOL.format(method="fork"),
    "spawn": POOL.format(method="spawn"),
    "forkserver": POOL.format(method="forkserver"),
    "executor": """from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(client.work, range(3)))""",
    "joblib": """from joblib import Parallel, delayed
    found = Parallel(n_jobs=2, backend="loky")(delayed(client.work)(seed) for seed in range(3))""",
    "subprocess": """import json, subprocess, sys
    code = "import json, client; print(json.dumps([client.work(seed) for seed in range(3)]))"
    found = [tuple(pair) for pair in json.loads(subprocess.check_output([sys.executable, "-c", code]))]""",
}
SLOW_STARTS = {
    "torch": """import torch.multiprocessing
    with torch.multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(client.work, range(3))""",
    "ray": """import ray
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    found = ray.get([ray.remote(client.work).remote(seed) for seed in range(3)])
    ray.shutdown()""",
}


def run(folder: Path, start: str) -> None:
    (folder / "client.py").write_text(CLIENT)
    (folder / "main.py").write_text(MAIN.format(start=start))
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip().endswith("equal"), done.stdout + done.stderr


@pytest.mark.parametrize("name", STARTS)
def test_workers_find_the_drop_in(name: str, tmp_path: Path) -> None:
    if name == "joblib" and importlib.util.find_spec("joblib") is None:
        pytest.skip("joblib is not installed")
    if name in ("fork", "forkserver") and sys.platform == "win32":
        pytest.skip("Windows has no fork")
    run(tmp_path, STARTS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_STARTS)
def test_workers_of_larger_libraries(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    run(tmp_path, SLOW_STARTS[name])


def test_a_second_call_changes_nothing() -> None:
    code = """
import os, sys, crispmask.pydensecrf as drop_in
drop_in.install()
before = list(sys.path), os.environ["PYTHONPATH"]
drop_in.install()
assert (list(sys.path), os.environ["PYTHONPATH"]) == before
assert before[0][0] == drop_in.path() == before[1].split(os.pathsep)[0]
"""
    for inherited in (None, "somewhere"):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [inherited, os.environ.get("PYTHONPATH")])),
        }
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def marginals_of_24_features(model_class: Any) -> np.ndarray:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(24, 60)).astype(np.float32) * 0.2
    model = model_class(60, 3)
    model.setUnaryEnergy(rng.normal(size=(3, 60)).astype(np.float32))
    model.addPairwiseEnergy(features, compat=2)
    return np.array(model.inference(3))


def test_features_of_24_dimensions() -> None:
    """As many as the original takes."""
    from crispmask.pydensecrf.densecrf import DenseCRF

    found = marginals_of_24_features(DenseCRF)
    assert abs(found - found[:, :1]).max() > 0.01


@pytest.mark.needs("pydensecrf")
def test_features_of_24_dimensions_as_in_the_original() -> None:
    from pydensecrf.densecrf import DenseCRF as Original

    from crispmask.pydensecrf.densecrf import DenseCRF

    np.testing.assert_allclose(marginals_of_24_features(DenseCRF), marginals_of_24_features(Original), atol=1e-3)
