"""The exact Gaussian filter as attention: linear memory, any device, gradients by autograd.

With queries q_i = [f_i, 1, -|f_i|²/2] and keys k_j = [f_j, -|f_j|²/2, 1] the logits are -|f_i - f_j|²/2. Attention
alone would divide by Σ_j k(f_i, f_j). One more key, whose logit is 0 for every query, is part of the same softmax:
dividing by its weight gives the sums themselves, and so every normalisation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Logit of padding: its weight underflows to zero, and so do the gradients through it.
_HIDDEN = -1e9
# Fused attention needs heads of equal width, on GPUs a multiple of this.
_ALIGN = 8


class AttentionKernel:
    """K with K_ij = exp(-|f_i - f_j|²/2), never held as a matrix.

    Args:
        features: (B, N, d), already divided by the bandwidths.
        valid: bool (B, N), False for points that are left out; None if there are none.
        channels: most channels that are filtered at once.
    """

    own = 1.0  # K(i, i)

    def __init__(self, features: Tensor, valid: Tensor | None, channels: int) -> None:
        batch, _, d = features.shape
        # Distances are computed as differences of squares, which float32 does more precisely for small features.
        with torch.no_grad():
            if valid is None:
                center = features.mean(1, keepdim=True)
            else:
                count = valid.sum(1)[:, None, None].clamp(min=1)
                center = (features * valid[..., None]).sum(1, keepdim=True) / count
        features = features - center
        half = -0.5 * features.square().sum(2, keepdim=True)
        ones = torch.ones_like(half)
        self._width = -(-max(d + 2, channels + 1) // _ALIGN) * _ALIGN
        spare = self._width - d - 2
        seen = half if valid is None else half.masked_fill(~valid[..., None], _HIDDEN)
        probe = features.new_zeros(batch, 1, self._width)
        self._query = F.pad(torch.cat([features, ones, half], 2), (0, spare))[:, None]
        self._key = torch.cat([F.pad(torch.cat([features, seen, ones], 2), (0, spare)), probe], 1)[:, None]

    def filter(self, values: Tensor) -> Tensor:
        """Σ_j k(f_i, f_j) v_j, the own term included: (B, N, C) to (B, N, C)."""
        channels = values.shape[2]
        own = values.new_zeros(len(values), 1, self._width)
        own[..., channels] = 1
        padded = torch.cat([F.pad(values, (0, self._width - channels)), own], 1)
        mean = F.scaled_dot_product_attention(self._query, self._key, padded[:, None], scale=1.0)[:, 0]
        return mean[..., :channels] / mean[..., channels : channels + 1]
