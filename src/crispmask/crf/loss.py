"""The dense CRF's energy as a loss, for weakly supervised segmentation (extra ``torch``).

M. Tang et al., "On Regularized Losses for Weakly-supervised CNN Segmentation", ECCV 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from crispmask.errors import MissingExtraError, ParamsError, ShapeError

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F
except ModuleNotFoundError:
    raise MissingExtraError("torch", "torch") from None

from crispmask.crf._attention import AttentionKernel
from crispmask.crf._lattice_autograd import LatticeKernel

Engine = Literal["auto", "exact", "lattice"]
Reduction = Literal["image", "pixel"]
# Pixels of an image up to which "auto" takes the exact engine.
_EXACT_ON_CPU, _EXACT_ELSEWHERE = 2048, 16384
# Points of an image whose exact sums say how much the lattice's are short, and how many of them at a time.
_SAMPLE, _CHUNK = 256, 32


class DenseCRFLoss(nn.Module):
    """The relaxed Potts energy of soft labels: how often similar pixels, near one another, get different labels.

    Σ_k S_kᵀ W (1 - S_k) over the labels k, with W_ij = exp(-|p_i - p_j|²/2θα² - |I_i - I_j|²/2θβ²), equation 3 of the
    paper. W is not normalised; the sum is over all ordered pairs, (i, i) included, and is divided by the number of
    images, as in the published code, whose weight for it is about 1e-9 on photos of 500 pixels. That code leaves out
    Σ_k S_kᵀ W 1, which depends on no label as long as every pixel's probabilities sum to one: `energy="quadratic"`.

    Args:
        theta_alpha: bandwidth of positions, pixels of the image as given; the paper: 100 on photos of 500 pixels.
        theta_beta: bandwidth of colours, in the unit of the image; the paper: 15 of 255.
        scale: the image, the probabilities and theta_alpha are reduced by this factor first; the published code: 0.5.
            Time and memory fall with its square.
        energy: "potts", which is never negative and 0 where all similar pixels agree, or "quadratic", -Σ S_kᵀ W S_k.
        reduction: divide by the number of images, or by that of pixels: then a weight serves images of any size.
        engine: "exact" (quadratic in pixels), "lattice" (linear in pixels; multiplied by what makes its sums those of
            the kernel, after which the energy is within 2 % of the exact one on photos), or "auto": exact up to 2048
            pixels an image on the CPU and 16384 elsewhere. Any device.

    Raises:
        ParamsError: a number out of its range, an unknown name.

    Example:
        >>> loss = DenseCRFLoss(theta_alpha=10.0, theta_beta=0.1)
        >>> probabilities = torch.full((1, 2, 16, 16), 0.5)
        >>> bool(loss(probabilities, torch.rand(1, 3, 16, 16)) > 0)
        True
    """

    def __init__(
        self,
        theta_alpha: float = 100.0,
        theta_beta: float | Sequence[float] = 15.0,
        *,
        scale: float = 1.0,
        energy: Literal["potts", "quadratic"] = "potts",
        reduction: Reduction = "image",
        engine: Engine = "auto",
    ) -> None:
        super().__init__()
        beta = torch.as_tensor(theta_beta, dtype=torch.float64)
        if not (0 < theta_alpha < float("inf")) or not (torch.isfinite(beta) & (beta > 0)).all() or beta.ndim > 1:
            raise ParamsError(f"bandwidths must be positive and finite, got {theta_alpha!r} and {theta_beta!r}")
        if not 0 < scale <= 1:
            raise ParamsError(f"scale must be above 0 and at most 1, got {scale!r}")
        for name, value, known in (
            ("energy", energy, ("potts", "quadratic")),
            ("reduction", reduction, get_args(Reduction)),
            ("engine", engine, get_args(Engine)),
        ):
            if value not in known:
                raise ParamsError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.theta_alpha, self.theta_beta = float(theta_alpha), beta
        self.scale, self.energy, self.engine = float(scale), energy, engine
        self.reduction = reduction

    def extra_repr(self) -> str:
        return (
            f"theta_alpha={self.theta_alpha}, theta_beta={self.theta_beta.tolist()}, scale={self.scale}, "
            f"energy={self.energy}, reduction={self.reduction}, engine={self.engine}"
        )

    def forward(self, probabilities: Tensor, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """The energy, divided as `reduction` says: one number.

        Gradients go to the probabilities, by the filter and its transpose. The image is data and gets none.

        Args:
            probabilities: float (B, L, H, W), in [0, 1]: a softmax, or other soft labels.
            image: (B, C, H, W), in the unit of theta_beta.
            mask: bool (B, H, W), False for pixels that take no part, such as padding or a region to be ignored; None
                for none. Where it is False, probabilities and image may hold anything.

        Raises:
            ShapeError: tensors that do not fit each other.
        """
        self._check(probabilities, image, mask)
        dtype = torch.float64 if probabilities.dtype == torch.float64 else torch.float32
        with torch.autocast(probabilities.device.type, enabled=False):
            s, features, valid = self._points(probabilities.to(dtype), image.detach().to(dtype), mask)
            small = s.shape[1] <= (_EXACT_ON_CPU if s.device.type == "cpu" else _EXACT_ELSEWHERE)
            if self.engine == "exact" or (self.engine == "auto" and small):
                energy = self._energy(s, features, valid, exact=True)
            else:
                energy = torch.compiler.disable(self._energy)(s, features, valid, exact=False)
            pixels = s.shape[0] * s.shape[1] if valid is None else valid.sum().clamp(min=1)
            return energy / (len(s) if self.reduction == "image" else pixels)

    def _points(
        self, probabilities: Tensor, image: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Soft labels (B, N, L), features (B, N, d), and which points take part, bool (B, N)."""
        if mask is not None:
            probabilities = torch.where(mask[:, None], probabilities, 0)
            image = torch.where(mask[:, None], image, 0)
        if self.scale < 1:
            options = {"scale_factor": self.scale, "mode": "bilinear", "align_corners": False, "antialias": False}
            probabilities, image = (F.interpolate(t, **options) for t in (probabilities, image))  # type: ignore[arg-type]
            if mask is not None:
                mask = F.interpolate(mask[:, None].to(image.dtype), size=image.shape[2:], mode="nearest")[:, 0] > 0
        batch, _, height, width = probabilities.shape
        valid = None if mask is None else mask.flatten(1)
        s = probabilities.flatten(2).transpose(1, 2)
        if valid is not None:
            s = torch.where(valid[..., None], s, 0)
        rows, columns = (torch.arange(n, device=image.device, dtype=image.dtype) for n in (height, width))
        places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), 2).reshape(1, -1, 2)
        colours = image.flatten(2).transpose(1, 2) / self.theta_beta.to(image)
        positions = (places / (self.theta_alpha * self.scale)).expand(batch, -1, -1)
        return s, torch.cat([positions, colours], 2), valid

    def _energy(self, s: Tensor, features: Tensor, valid: Tensor | None, *, exact: bool) -> Tensor:
        """Σ_k S_kᵀ W (1 - S_k), or -S_kᵀ W S_k, of the whole batch."""
        kernel = (AttentionKernel if exact else LatticeKernel)(features, valid, s.shape[2])
        ones = torch.ones_like(s[..., :1]) if valid is None else valid[..., None].to(s.dtype)
        sums = kernel.filter(ones) if not exact or self.energy == "potts" else None
        energies = -(s * kernel.filter(s)).sum((1, 2))
        if sums is not None and self.energy == "potts":
            energies = energies + (s * sums).sum((1, 2))
        if not exact and sums is not None:
            energies = energies * _shortfall(features, valid, sums.detach())
        return energies.sum()

    def _check(self, probabilities: Tensor, image: Tensor, mask: Tensor | None) -> None:
        if probabilities.ndim != 4:
            raise ShapeError(f"the probabilities must have shape (B, L, H, W), got {tuple(probabilities.shape)}")
        batch, _, height, width = probabilities.shape
        if image.ndim != 4 or image.shape[0] != batch or image.shape[2:] != probabilities.shape[2:]:
            raise ShapeError(f"the image must have shape ({batch}, C, {height}, {width}), got {tuple(image.shape)}")
        if self.theta_beta.ndim and len(self.theta_beta) != image.shape[1]:
            raise ShapeError(f"theta_beta has {len(self.theta_beta)} numbers, the image {image.shape[1]} channels")
        if mask is not None and (mask.shape != (batch, height, width) or mask.dtype != torch.bool):
            raise ShapeError(f"the mask must be bool of shape ({batch}, {height}, {width}), got {tuple(mask.shape)}")


def _shortfall(features: Tensor, valid: Tensor | None, sums: Tensor) -> Tensor:
    """How much larger the kernel's sums are than the lattice's, of each item of the batch: (B,).

    Args:
        features: (B, N, d).
        valid: bool (B, N), or None for all points.
        sums: the lattice's, (B, N, 1).
    """
    ratios = []
    for b, points in enumerate(features):
        taken = torch.arange(len(points), device=points.device) if valid is None else torch.nonzero(valid[b])[:, 0]
        if not len(taken):
            ratios.append(sums.new_ones(()))
            continue
        sample = taken[:: max(1, len(taken) // _SAMPLE)]
        others = points[taken]
        exact = sums.new_zeros(())
        for some in torch.split(sample, _CHUNK):
            distance = torch.cdist(points[some], others, compute_mode="donot_use_mm_for_euclid_dist")
            exact += torch.exp(-0.5 * distance.square()).sum()
        ratios.append(exact / sums[b, sample].sum())
    return torch.stack(ratios)
