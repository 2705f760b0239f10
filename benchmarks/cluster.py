"""The pipeline on a Ray cluster of several node processes on this machine, against a run without one.

    python benchmarks/cluster.py IMAGES [--annotations GT.json] [--verbs segment refine] [--nodes 1 2 3]
        [--kill-node] [--kill-driver]

Starts real clusters (`ray start`, one processor a node, loopback only), runs `crispmask segment` and `refine` with
`--engine ray` on each, and compares their results byte by byte with those of the local run; refine gets the masks that
the local run of segment has before refinement. With --kill-node a worker node of three loses its raylet and all its
workers (SIGKILL) in the middle, with --kill-driver the command itself is killed and repeated. Exits with 1 if anything
differs. Ctrl-C and SIGTERM end the clusters too.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.dataset as ds
from nodes import Cluster

FILES = ("results.json", "results_before.json", "images.json")


class Verb:
    """A command with its inputs, and how to tell what it has done.

    Args:
        name: ``segment`` or ``refine``.
        options: of this script.
    """

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name, self.work, self.limit = name, options.work, options.limit
        given = ["--annotations", options.annotations] if options.annotations else []
        if name == "segment":
            self.line = ["segment", options.images, *given, "--score", str(options.score)]
        else:
            self.line = ["refine", str(options.work / "segment-local" / "results_before.json")]
            self.line += ["--images", options.images, *given]

    def output(self, run: str) -> Path:
        """Where a run writes to."""
        return self.work / f"{self.name}-{run}{'' if self.name == 'segment' else '.json'}"

    def start(self, run: str, *options: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a run."""
        line = [sys.executable, "-m", "crispmask", *self.line, "-o", str(self.output(run)), *options]
        return subprocess.Popen(line, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def finish(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for a run; its exit code."""
        try:
            return process.wait(self.limit)
        finally:
            process.kill()

    def images_done(self, run: str) -> int:
        """Images that a run on a cluster has finished."""
        output = self.output(run)
        state = output if self.name == "segment" else output.with_name(output.name + ".unfinished")
        files = (state / "checkpoint").glob("*.parquet")
        done = [str(file) for file in files if not file.name.endswith(".pending.parquet")]
        return ds.dataset(done, format="parquet").count_rows() if done else 0

    def wait_for_images(self, run: str, process: subprocess.Popen[bytes]) -> int:
        """Wait until the first images are finished; how many."""
        for _ in range(5 * self.limit):
            if process.poll() is not None:
                break
            if done := self.images_done(run):
                return done
            time.sleep(0.2)
        raise SystemExit("nothing was finished that could be killed after it: use more images")

    def compare(self, run: str) -> tuple[bool, str]:
        """Whether a run gave what the local run gave, and that as words."""
        output, local = self.output(run), self.output("local")
        if self.name == "refine":
            equal = filecmp.cmp(output, local, shallow=False)
            return equal, "the same bytes" if equal else "DIFFERENT RESULTS"
        equal = all(filecmp.cmp(output / name, local / name, shallow=False) for name in FILES)
        names = ds.dataset(str(output / "images.parquet"), format="parquet").to_table(["file_name"])["file_name"]
        rows = f"{len(names)} rows of {len(names.unique())} images"
        return equal, f"{'the same bytes' if equal else 'DIFFERENT RESULTS'}, {rows}"


def on_cluster(verb: Verb, nodes: int, victim: str, images_per_file: int) -> bool:
    """One run on a cluster of its own; whether it gave what the local run gave."""
    what = f"{verb.name}, {nodes} node{'s' * (nodes > 1)}" + (f", {victim} killed in the middle" if victim else "")
    run = f"{nodes}{victim}"
    with Cluster(nodes) as cluster:
        options = ["--engine", "ray", "--address", cluster.address, "--images-per-file", str(images_per_file)]
        started = time.monotonic()
        process = verb.start(run, *options, environment=cluster.environment)
        try:
            if victim:
                done = verb.wait_for_images(run, process)
                print(f"  killing the {victim} with {done} images finished", flush=True)
                if victim == "node":
                    cluster.kill(-1)
                else:
                    process.kill()
                    process.wait()
                    process = verb.start(run, *options, environment=cluster.environment)
            code = verb.finish(process)
        except subprocess.TimeoutExpired:
            print(f"{what}: not finished after {verb.limit} s", flush=True)
            return False
        finally:
            process.kill()
        seconds = time.monotonic() - started
    equal, words = (False, f"exit code {code}") if code else verb.compare(run)
    print(f"{what:<44} {seconds:6.0f} s  {words}", flush=True)
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("--annotations")
    parser.add_argument("--score", type=float, default=0.7, help="of segment")
    parser.add_argument("--verbs", nargs="*", choices=["segment", "refine"], default=["segment", "refine"])
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--kill-node", action="store_true")
    parser.add_argument("--kill-driver", action="store_true")
    parser.add_argument("--images-per-file", type=int, default=20)
    parser.add_argument("--limit", type=int, default=1800, help="seconds that a run may take")
    parser.add_argument("--work", type=Path, default=None, help="folder of the outputs; local runs in it are kept")
    options = parser.parse_args()
    options.work = options.work or Path(tempfile.mkdtemp(prefix="crispmask-cluster-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that what was started is ended
    segment = Verb("segment", options)
    verbs = [segment if name == "segment" else Verb(name, options) for name in options.verbs]
    for verb in dict.fromkeys([segment, *verbs]):
        local = ["--no-pictures"] if verb is segment else []
        if not verb.output("local").exists() and verb.finish(verb.start("local", *local, environment=dict(os.environ))):
            raise SystemExit(f"the local run of {verb.name} failed")
    runs = [(nodes, "") for nodes in options.nodes]
    runs += [(3, "node")] * options.kill_node + [(3, "driver")] * options.kill_driver
    equal = [on_cluster(verb, *run, options.images_per_file) for verb in verbs for run in runs]
    raise SystemExit(0 if all(equal) else 1)


if __name__ == "__main__":
    main()
