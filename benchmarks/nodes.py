"""Ray clusters of several node processes on this machine, as `ray start` makes them, with nothing left behind."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

START_LIMIT = 60  # seconds that one node may take to start; Ray itself gives up earlier, on a busy machine at times
ATTEMPTS = 2


class Cluster:
    """Node processes on the loopback interface; end it with `stop`, or use it as a context.

    Args:
        nodes: how many.
        processors: that each of them offers.
        object_store: bytes of memory that each of them shares between its processes.

    Attributes:
        address: for ``--address``.
        environment: for the processes that use the cluster.
        nodes: process ids of the nodes' raylets, the head's first.
    """

    def __init__(self, nodes: int, processors: float = 1, object_store: int = 200_000_000) -> None:
        each = (f"--num-cpus={processors:g}", f"--object-store-memory={object_store}", "--node-ip-address=127.0.0.1")
        for attempt in range(ATTEMPTS):
            try:
                self._start(nodes, each)
                return
            except BaseException as error:
                self.stop()
                if not isinstance(error, RuntimeError) or attempt == ATTEMPTS - 1:
                    raise

    def _start(self, nodes: int, each: tuple[str, ...]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # its sockets' paths must be short
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # as the local run that it is compared with
        }
        self.environment.pop("RAY_ADDRESS", None)
        self.nodes: list[int] = []
        head = ("--head", f"--port={port}", f"--temp-dir={self.folder}/ray", "--include-dashboard=false")
        for k in range(nodes):
            known = self._raylets()
            self._ray("start", *each, *(head if k == 0 else (f"--address={self.address}",)))
            self.nodes += self._raylets() - known

    def _ray(self, *line: str) -> None:
        # Workers get the interpreter that started their node.
        started = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *line],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            output, _ = started.communicate(timeout=START_LIMIT)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"a node has not started after {START_LIMIT} s") from None
        finally:
            if started.poll() is None:
                end([*descendants(started.pid), started.pid])
                started.wait()
        if started.returncode:
            raise RuntimeError(f"a node did not start:\n{output}")

    def _processes(self) -> set[int]:
        """What was started with this cluster's own folder."""
        return {pid for pid in processes() if f"{self.folder}/" in command(pid)}

    def _raylets(self) -> set[int]:
        return {pid for pid in self._processes() if "/raylet/raylet " in command(pid)}

    def kill(self, node: int) -> None:
        """SIGKILL for a node's raylet and everything that it started."""
        raylet = self.nodes.pop(node)
        end([*descendants(raylet), raylet])

    def stop(self) -> None:
        """End the processes of this cluster, and no others."""
        for pid in self._processes():
            end([*descendants(pid), pid])
        self.nodes = []
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def end(pids: Iterable[int]) -> None:
    """SIGKILL for processes, where they still are."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def processes() -> list[int]:
    """Of this machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def command(pid: int) -> str:
    """Of a process; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """Of a process, the youngest first."""
    try:
        threads = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        children = [child for file in threads for child in file.read_text().split()]
    except OSError:
        return []
    return [p for child in children for p in (*descendants(int(child)), int(child))]
