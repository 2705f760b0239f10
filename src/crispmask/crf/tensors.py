"""Torch tensors at the door of functions for arrays, without importing torch: who passes one has imported it."""

from __future__ import annotations

import sys
from typing import Any

from numpy.typing import NDArray

from crispmask.arguments import as_array
from crispmask.crf._checks import real_numbers
from crispmask.errors import MissingExtraError, ParamsError, ValueRangeError


def is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def host(value: Any) -> NDArray[Any]:
    """A tensor's or an array's numbers as a NumPy array; shares memory where it can."""
    array: NDArray[Any] = value.detach().cpu().numpy() if is_tensor(value) else as_array(value, "the argument")
    return array


def on_gpu(value: Any) -> bool:
    """Whether it is a tensor that is not on the CPU."""
    return is_tensor(value) and value.device.type != "cpu"


def numbers(value: Any, name: str) -> Any:
    """As real, finite float32: a tensor that is not on the CPU stays where it is, all else becomes a NumPy array.

    Raises:
        ValueRangeError: numbers that are not real or not finite.
    """
    if not on_gpu(value):
        return real_numbers(host(value), name)
    import torch

    if value.is_complex():
        raise ValueRangeError(f"{name} must be real numbers, got dtype {value.dtype}")
    value = value.detach().to(torch.float32)
    if value.numel() and not bool(torch.isfinite(torch.stack([value.min(), value.max()])).all()):
        raise ValueRangeError(f"{name} must be finite: found NaN, infinity, or numbers beyond float32")
    return value


def device_of(device: Any, values: Any) -> Any:
    """Where to work: the torch device, or None for NumPy and Numba on the CPU.

    Args:
        device: a torch device or its name; None for that of `values`.
        values: an array or a tensor.

    Raises:
        MissingExtraError: a device other than the CPU, without torch.
        ParamsError: a device that torch does not know or does not find.
    """
    if device is None:
        return values.device if on_gpu(values) else None
    if str(device) == "cpu":
        return None
    try:
        import torch
    except ModuleNotFoundError:
        raise MissingExtraError("torch", "torch") from None
    try:
        place = torch.device(device)
        return torch.empty(0, device=place).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ParamsError(f"device {device!r} cannot be used: {reason}; take 'cpu', or another one") from error
