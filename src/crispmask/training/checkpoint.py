"""Reading the checkpoints that the training loop writes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from crispmask.errors import ModelError

_KEYS = {"model", "average", "optimizer", "step", "names", "config"}

# What torch raises on files that are no checkpoints, or cut short.
_UNREADABLE = (OSError, KeyError, RuntimeError, TypeError, ValueError, EOFError, AttributeError, pickle.UnpicklingError)


def read_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any]:
    """The checkpoint's content, its tensors on `device`; nothing in it is executed.

    Raises:
        ModelError: a missing or damaged file, or one that `crispmask train` did not write.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"there is no checkpoint {path}") from None
    except _UNREADABLE:
        # torch's own words are a page of advice on how to load unsafe files.
        raise ModelError(f"{path} is damaged, or not a checkpoint of crispmask train") from None
    if not isinstance(state, dict) or not state.keys() >= _KEYS:
        raise ModelError(f"{path} is not a checkpoint of crispmask train")
    return state
