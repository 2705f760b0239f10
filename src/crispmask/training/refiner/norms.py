"""Batch norm for training in large batches: put into a network without changing what it computes, and taken out again.

The network has none, so that eight crops a step are enough. Larger batches train several times faster with it: the
rate may be 20 times as high.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from crispmask.training.refiner.network import MaskNetwork

LEAST_BATCH = 32
"""Crops a step from which on there is batch norm."""

Places = list[tuple[nn.Module, str, nn.Conv2d]]


def with_norms(network: MaskNetwork, rgb: Tensor, prompt: Tensor) -> MaskNetwork:
    """Put a batch norm behind every convolution but the last ones, in place.

    Args:
        network: without norms.
        rgb, prompt: a batch, on which the norms compute nothing new.
    """
    stats: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def measure(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        values = output.detach().float()
        stats[module] = values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)

    places = _places(network)
    hooks = [conv.register_forward_hook(measure) for _, _, conv in places]
    with torch.no_grad():
        network(rgb, prompt)
    for hook in hooks:
        hook.remove()
    for parent, name, conv in places:
        mean, variance = stats[conv]
        norm = nn.BatchNorm2d(conv.out_channels).to(conv.weight.device)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        with torch.no_grad():
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.copy_(mean)
        setattr(parent, name, nn.Sequential(conv, norm))
    return network


def without_norms(network: MaskNetwork) -> MaskNetwork:
    """Fold the norms into their convolutions, in place; a network without norms stays as it is."""
    for parent, name, pair in list(_pairs(network)):
        conv, norm = pair[0], pair[1]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        weight, bias = folded(conv, norm)
        with torch.no_grad():
            conv.weight.copy_(weight)
            assert conv.bias is not None
            conv.bias.copy_(bias)
        setattr(parent, name, conv)
    return network


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what a convolution and its batch norm did."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = torch.zeros_like(norm.bias) if conv.bias is None else conv.bias
    return conv.weight * scale[:, None, None, None], norm.bias + (bias - norm.running_mean) * scale


def _places(network: MaskNetwork) -> Places:
    """Parent, name and convolution of all but the two answers."""
    last = (network.head, network.coarse)
    return [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Conv2d) and child not in last
    ]


def _pairs(network: MaskNetwork) -> Iterator[tuple[nn.Module, str, nn.Sequential]]:
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Sequential) and len(child) == 2 and isinstance(child[1], nn.BatchNorm2d):
                yield parent, name, child
