"""The pipeline on a Ray cluster of several node processes on this machine, against a run without one.

    python benchmarks/cluster.py PHOTOS [--annotations GT.json] [--nodes 2 3] [--kill-node] [--kill-driver]

Starts real clusters (`ray start`, one processor a node, loopback only), runs `crispmask segment --engine ray` on each,
and compares results.json byte by byte with that of the local run. With --kill-node a worker node of three loses its
raylet and all its workers (SIGKILL) in the middle, with --kill-driver the command itself is killed and repeated.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import pyarrow.dataset as ds

FILES = ("results.json", "results_before.json", "images.json")
OBJECT_STORE = 300_000_000  # bytes a node


class Cluster:
    """Node processes of one processor each; `nodes` is a list of their raylets' process ids, the head's first."""

    def __init__(self, nodes: int, port: int = 6400) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # its sockets' paths must be short
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        self.address = f"127.0.0.1:{port}"
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.nodes: list[int] = []
        try:
            for k in range(nodes):
                known = self._processes()
                where = ["--head", f"--port={port}", f"--temp-dir={self.folder}/ray", "--include-dashboard=false"]
                self._ray("start", *(where if k == 0 else [f"--address={self.address}"]))
                self.nodes += [pid for pid in self._processes() - known if "/raylet/raylet " in command(pid)]
        except BaseException:
            self.stop()
            raise

    def _ray(self, verb: str, *options: str) -> None:
        common = ("--num-cpus=1", f"--object-store-memory={OBJECT_STORE}", "--node-ip-address=127.0.0.1")
        # Workers get the interpreter that started their node.
        line = [sys.executable, "-m", "ray.scripts.scripts", verb, *common, *options]
        subprocess.run(line, env=self.environment, check=True, capture_output=True)

    def _processes(self) -> set[int]:
        """What was started with this cluster's own folder."""
        return {pid for pid in processes() if f"{self.folder}/" in command(pid)}

    def kill(self, node: int) -> None:
        """SIGKILL for a node's raylet and everything that it started."""
        raylet = self.nodes.pop(node)
        end([*descendants(raylet), raylet])

    def stop(self) -> None:
        """End the processes of this cluster, and no others."""
        while self.nodes:
            self.kill(0)
        end(self._processes())
        shutil.rmtree(self.folder, ignore_errors=True)


def end(pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [p for child in children for p in (*descendants(int(child)), int(child))]


def crispmask(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "crispmask", "segment", *arguments], env=environment)


def wait_for_rows(output: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait until the first photos are finished; how many."""
    checkpoint = output / "checkpoint"
    while process.poll() is None:
        done = [str(p) for p in checkpoint.glob("*.parquet") if not p.name.endswith(".pending.parquet")]
        if done:
            return ds.dataset(done, format="parquet").count_rows()
        time.sleep(0.2)
    raise SystemExit("the run ended before anything could be killed: use more photos")


def compare(what: str, output: Path, reference: Path, seconds: float) -> None:
    equal = all(filecmp.cmp(output / name, reference / name, shallow=False) for name in FILES)
    rows = ds.dataset(str(output / "photos.parquet"), format="parquet").to_table(["file_name"])["file_name"]
    print(
        f"{what:<44} {seconds:6.0f} s  {len(rows)} rows, {len(rows.unique())} photos, "
        f"{'the same bytes' if equal else 'DIFFERENT RESULTS'}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos")
    parser.add_argument("--annotations")
    parser.add_argument("--nodes", type=int, nargs="*", default=[2, 3], help="2 or more")
    parser.add_argument("--kill-node", action="store_true")
    parser.add_argument("--kill-driver", action="store_true")
    parser.add_argument("--photos-per-file", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path(tempfile.mkdtemp(prefix="crispmask-cluster-")))
    options = parser.parse_args()
    given = [options.photos, *(["--annotations", options.annotations] if options.annotations else [])]
    reference = options.work / "local"
    if not reference.exists():
        crispmask([*given, "-o", str(reference), "--no-pictures"], dict(os.environ)).wait()
    runs = [(f"{n} node{'s' * (n > 1)}", n, "") for n in options.nodes]
    runs += [("3 nodes, one killed in the middle", 3, "node")] * options.kill_node
    runs += [("3 nodes, driver killed in the middle", 3, "driver")] * options.kill_driver
    for what, nodes, victim in runs:
        output = options.work / what.replace(" ", "-").replace(",", "")
        cluster = Cluster(nodes)
        try:
            line = [*given, "-o", str(output), "--engine", "ray", "--address", cluster.address]
            line += ["--photos-per-file", str(options.photos_per_file)]
            started = time.monotonic()
            process = crispmask(line, cluster.environment)
            if victim:
                done = wait_for_rows(output, process)
                print(f"  killing the {victim} with {done} photos finished", flush=True)
                if victim == "node":
                    cluster.kill(-1)
                else:
                    process.kill()
                    process.wait()
                    process = crispmask(line, cluster.environment)
            if process.wait():
                print(f"{what}: exit code {process.returncode}", flush=True)
            else:
                compare(what, output, reference, time.monotonic() - started)
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
