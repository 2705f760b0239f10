"""Launching a Triton kernel on the device of its tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def launch(kernel: Any, grid: tuple[int, ...], first: Tensor, *arguments: Any, **constants: Any) -> None:
    """Launch the kernel with the tensor and the other arguments; a grid of nothing launches nothing."""
    if 0 in grid:
        return
    if not first.is_cuda or first.device.index == torch.cuda.current_device():  # not CUDA: Triton's interpreter
        kernel[grid](first, *arguments, **constants)
        return
    with torch.cuda.device(first.device):
        kernel[grid](first, *arguments, **constants)
