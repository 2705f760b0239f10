"""Checkpoints of the training loop: ``checkpoint.pt`` to resume from, ``best.pt`` with the averaged weights only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from crispmask.detectors.networks import UNREADABLE
from crispmask.errors import ModelError
from crispmask.files import replacing

_KEYS = {"average", "step", "names", "config"}


def read_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any]:
    """The checkpoint's content, its tensors on `device`; nothing in it is executed.

    Raises:
        ModelError: a missing or damaged file, or one that `crispmask train` did not write.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"there is no checkpoint {path}") from None
    except UNREADABLE:
        # torch's own message advises how to load unsafe files.
        raise ModelError(f"{path} is damaged, or not a checkpoint of crispmask train") from None
    if not isinstance(state, dict) or not state.keys() >= _KEYS:
        raise ModelError(f"{path} is not a checkpoint of crispmask train")
    return state


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; an older one is replaced only by a complete one."""
    with replacing(path) as partial:
        torch.save(state, partial)
