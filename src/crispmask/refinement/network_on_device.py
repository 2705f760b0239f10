"""The mask network on a torch device, many crops at a time (extra ``torch``): its ONNX file, run with torch.

ONNX Runtime needs another package for a GPU, whose files overwrite those of the one for the CPU; torch is there already
where the CRF works on a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np

from crispmask.errors import MissingExtraError, ModelError
from crispmask.refinement.network import FORMAT

try:
    import onnx
    import torch
    from onnx import numpy_helper
    from torch import Tensor
    from torch.nn import functional as F
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "torch", "torch") from None


class MaskNetworkOnDevice:
    """`MaskNetwork` on a torch device; the same log-odds up to the rounding of float32.

    Args:
        content: the ONNX file; see `MaskNetwork`.
        device: where to work.

    Raises:
        ModelError: another file, or one with operations that are not known here, such as an int8 network's.
    """

    def __init__(self, content: bytes, device: torch.device) -> None:
        try:
            model = onnx.load_from_string(content)
            facts = {entry.key: entry.value for entry in model.metadata_props}
            if facts["format"] != json.dumps(FORMAT):
                raise ValueError(facts["format"])
        except Exception as error:  # protobuf's exceptions have no common base with these
            raise ModelError(f"the mask network is not one that crispmask learn wrote: {error}") from None
        unknown = sorted({node.op_type for node in model.graph.node} - set(_OPERATIONS))
        if unknown:
            raise ModelError(
                f"the mask network has operations that run on the CPU only ({', '.join(unknown)}): leave the device "
                "out, or export it in float16 (crispmask learn --precision float16)"
            )
        self._known: dict[str, Tensor] = {entry.name: _tensor(entry).to(device) for entry in model.graph.initializer}
        self._steps: list[tuple[str, list[str], str, dict[str, Any]]] = []
        for node in model.graph.node:
            options = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
            if node.op_type == "Constant":
                self._known[node.output[0]] = _tensor(options["value"]).to(device)
            elif node.op_type == "Cast" and node.input[0] in self._known:
                self._known[node.output[0]] = _cast(self._known[node.input[0]], **options)
            else:
                if node.op_type == "Resize":  # sizes are read on the CPU
                    self._known |= {name: self._known[name].cpu() for name in node.input[2:] if name in self._known}
                if node.op_type == "Conv":
                    for name in node.input[1:]:
                        weight = self._known[name]
                        layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
                        self._known[name] = weight.contiguous(memory_format=layout)
                self._steps.append((node.op_type, list(node.input), node.output[0], options))

    @torch.inference_mode()
    def __call__(self, images: Tensor, prompts: Tensor, passes: int = 1) -> Tensor:
        """Log-odds of the objects, float32 (N, S, S).

        Args:
            images: float32 (N, S, S, 3) RGB, 0 to 255, the crops; some 50 MB of memory each while the network runs.
            prompts: float32 (N, S, S) in [0, 1].
            passes: how often the network runs; see `MaskNetwork`.
        """
        rgb, prompt = images.permute(0, 3, 1, 2) / 255, prompts[:, None]
        odds = prompt
        with _full_precision():
            for _ in range(passes):
                odds = self._once({"rgb": rgb, "prompt": prompt})
                prompt = torch.sigmoid(odds)
        return odds[:, 0]

    def _once(self, given: dict[str, Tensor]) -> Tensor:
        values = {**self._known, **given, "": None}
        for operation, inputs, output, options in self._steps:
            values[output] = _OPERATIONS[operation](*(values[name] for name in inputs), **options)
        return values["odds"]


_ALONE = Lock()


@contextmanager
def _full_precision() -> Iterator[None]:
    """Convolutions without TensorFloat-32: the same masks as on the CPU.

    The switch is the whole process's: one thread at a time moves it, and moves it back.
    """
    # torch 2.9 has one for each operation, and the older one fails where these differ.
    owner: Any = torch.backends.cudnn
    owner, name, full = (
        (owner.conv, "fp32_precision", "ieee") if hasattr(owner, "conv") else (owner, "allow_tf32", False)
    )
    with _ALONE:
        before = getattr(owner, name)
        setattr(owner, name, full)
        try:
            yield
        finally:
            setattr(owner, name, before)


def _tensor(entry: Any) -> Tensor:
    return torch.from_numpy(np.array(numpy_helper.to_array(entry)))


def _cast(x: Tensor, to: int) -> Tensor:
    return x.to(torch.from_numpy(np.empty(0, onnx.helper.tensor_dtype_to_np_dtype(to))).dtype)


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    pads: Sequence[int] = (0, 0, 0, 0),
    strides: Sequence[int] = (1, 1),
    dilations: Sequence[int] = (1, 1),
    group: int = 1,
    **_: Any,
) -> Tensor:
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return F.conv2d(x, weight, bias, tuple(strides), (top, left), tuple(dilations), group)
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, tuple(strides), 0, tuple(dilations), group)


def _resize(
    x: Tensor, _: Any = None, scales: Tensor | None = None, sizes: Tensor | None = None, **options: Any
) -> Tensor:
    linear = options.get("mode", b"nearest") == b"linear"
    if not linear or options.get("coordinate_transformation_mode", b"half_pixel") != b"half_pixel":
        raise ModelError("the mask network resizes in a way that is not known here: leave the device out")
    if sizes is not None:
        target = sizes.tolist()[2:]
    else:
        target = [int(length * scale) for length, scale in zip(x.shape[2:], scales.tolist()[2:], strict=True)]  # type: ignore[union-attr]
    return F.interpolate(x, size=target, mode="bilinear", align_corners=False)


def _depth_to_space(x: Tensor, *, blocksize: int, mode: bytes = b"DCR") -> Tensor:
    if mode != b"CRD" and x.shape[1] != blocksize**2:  # with one channel out the two orders are the same
        raise ModelError("the mask network orders its answers in a way that is not known here: leave the device out")
    return F.pixel_shuffle(x, blocksize)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "Cast": _cast,
    "Clip": torch.clamp,
    "Concat": lambda *some, axis: torch.cat(some, axis),
    "Constant": _tensor,
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": torch.div,
    "Log": torch.log,
    "Mul": torch.mul,
    "Relu": torch.relu,
    "Resize": _resize,
    "Sigmoid": torch.sigmoid,
    "Sub": torch.sub,
}
