"""Runs one case, and says what was wrong with it."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tests.fuzz.doors import ALLOWED, DOORS, WARM

from crispmask import Instances
from crispmask.errors import CrispmaskError

SECONDS = 20.0
MEMORY = 1 << 30
"""Bytes by which one input may raise the highest memory of the process."""

Call = Callable[[Path, bytes], Any]


def check(door: str, content: bytes, call: Call) -> None:
    """Run a case twice.

    Raises:
        AssertionError: another exception than the door's, more than `SECONDS` or `MEMORY`, NaN, or two answers.
    """
    before = highest_memory()
    one, other = _awaited(_pool().submit(_twice, door, content, call))
    assert one == other, f"two answers: {one!r:.200} and {other!r:.200}"
    more = highest_memory() - before
    assert more < MEMORY, f"{more / 1e9:.1f} GB of memory"


def outcome(door: str, content: bytes, call: Call) -> Any:
    """What a call gives, comparable: the message of an expected exception, or bytes of the answer.

    Raises:
        AssertionError: a fault, in words.
    """
    folder = _folder()
    file = folder / "input"
    file.write_bytes(content)
    try:
        answer = call(file, content)
    except (CrispmaskError, *ALLOWED.get(door, ())) as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}") from None
    finally:
        for path in list(folder.iterdir()):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return comparable(answer)


def comparable(answer: Any) -> Any:
    """The answer as bytes or text; AssertionError where NaN is in it."""
    if isinstance(answer, Instances):
        arrays = [answer.boxes, answer.scores, answer.category_ids, *(w.probabilities for w in answer.windows)]
        return [comparable(array) for array in arrays]
    if isinstance(answer, np.ndarray):
        assert answer.dtype.kind != "f" or np.isfinite(answer).all(), "the answer holds NaN or infinity"
        return (answer.shape, answer.tobytes())
    return answer if isinstance(answer, bytes) else repr(answer)


def highest_memory() -> int:
    """The most bytes of memory that this process had so far; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


@cache
def warm(door: str) -> None:
    """Load and compile what a door needs, which would count as its time."""
    if door in WARM:
        WARM[door]()


def case(door: str, seed: str) -> tuple[bytes, Call]:
    """The case of a seed."""
    return DOORS[door](random.Random(seed))


def saved(door: str, content: bytes) -> None:
    """Check a file of the corpus."""
    check(door, content, DOORS[door](random.Random(0))[1])


def _awaited(answers: Future[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Both answers; on a busy machine they may take longer than `SECONDS` each, as long as they wait for it."""
    begun = time.process_time()
    for _ in range(10):
        try:
            return answers.result(2 * SECONDS)
        except TimeoutError:
            if time.process_time() - begun > 2 * SECONDS:
                break
    _pool.cache_clear()  # this one is busy
    raise AssertionError(f"no answer within {SECONDS:.0f} seconds")


def _twice(door: str, content: bytes, call: Call) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return outcome(door, content, call), outcome(door, content, call)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "fuzz")


@cache
def _folder() -> Path:
    """An empty folder, in memory where there is such a disk: most of the time would go into making files."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="crispmask-fuzz-", dir=memory if os.access(memory, os.W_OK) else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
