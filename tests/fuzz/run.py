"""Runs one case, and says what was wrong with it."""

from __future__ import annotations

import random
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.fuzz.doors import DOORS

from crispmask import Instances
from crispmask.errors import CrispmaskError

SECONDS = 20.0
ALLOWED: dict[str, tuple[type[BaseException], ...]] = {"arrays": (CrispmaskError, TypeError, IndexError)}
"""The drop-in documents TypeError for wrong kinds and IndexError for what is too short; all else raises the family."""


def outcome(door: str, file: Path, content: bytes, call: Callable[[Path, bytes], Any]) -> Any:
    """What a call gives, comparable: the message of an expected exception, or bytes of the answer.

    Raises:
        AssertionError: a fault, in words.
    """
    file.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = call(file, content)
    except ALLOWED.get(door, (CrispmaskError,)) as error:
        if not isinstance(error, CrispmaskError) and b"drop-in" not in content:
            raise AssertionError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}") from None
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}") from None
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


def check(door: str, content: bytes, call: Callable[[Path, bytes], Any]) -> None:
    """Run a case twice.

    Raises:
        AssertionError: another exception than those of the family, more than `SECONDS`, NaN, or two answers.
    """
    found: list[Any] = []

    def work() -> None:
        for _ in range(2):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    # Messages name the file: the folder is another one each time.
                    found.append(_without(folder, outcome(door, Path(folder) / "input", content, call)))
                except AssertionError as fault:
                    found.append(fault)
                    return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(2 * SECONDS)
    assert not thread.is_alive(), f"no answer within {SECONDS:.0f} seconds"
    for one in found:
        if isinstance(one, AssertionError):
            raise one
    assert found[0] == found[1], f"two answers: {found[0]!r:.200} and {found[1]!r:.200}"


def _without(folder: str, answer: Any) -> Any:
    return answer.replace(folder, "") if isinstance(answer, str) else answer


def case(door: str, seed: str) -> tuple[bytes, Callable[[Path, bytes], Any]]:
    """The case of a seed."""
    return DOORS[door](random.Random(seed))


def saved(door: str, content: bytes) -> None:
    """Check a file of the corpus."""
    check(door, content, DOORS[door](random.Random(0))[1])
