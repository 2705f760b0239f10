"""Devices, precision and processes of a run, with Hugging Face Accelerate."""

from __future__ import annotations

import os
import warnings

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from crispmask.errors import ParamsError


def is_main_process() -> bool:
    """Whether this process writes files and messages: the only one, or the first of those that ``torchrun`` started."""
    return int(os.environ.get("RANK", "0")) == 0


def accelerator_for(device: torch.device, precision: str, batch_size: int) -> Accelerator:
    """Accelerate for the process group that ``torchrun`` prepared, or for this process alone.

    Args:
        device: the device; in a group any device of that kind, as each process takes its own.
        precision: one of `crispmask.training.detector.config.PRECISIONS`.
        batch_size: images per step, shared equally among the processes.

    Raises:
        ParamsError: a precision that the device does not have, or a batch that cannot be shared equally.
    """
    if precision == "auto":
        precision = fast_precision(device)
    if precision == "fp16" and device.type == "cpu":
        raise ParamsError("fp16 needs a GPU: choose the precision bf16, no or auto")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if batch_size % processes:
        raise ParamsError(
            f"a batch of {batch_size} images cannot be shared by {processes} processes: change batch_size"
        )
    if processes == 1 and device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    # Accelerate keeps one state per process; without a reset it refuses a second run with other settings.
    AcceleratorState._reset_state(reset_partial_state=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the number of threads that it chooses
        made = Accelerator(cpu=device.type == "cpu", mixed_precision=precision)
    if made.device.type != device.type:
        raise ParamsError(
            f"Accelerate trains on {made.device.type} here, not on {device.type}: give --device {made.device.type}"
        )
    return made


def fast_precision(device: torch.device) -> str:
    """The precision of the device's matrix units: "bf16", "fp16" or "no" (float32)."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # On CPUs bfloat16 is faster only where the matrix units (AMX) have it.
    return "bf16" if device.type == "cpu" and torch.cpu._is_amx_tile_supported() else "no"
