"""The dense CRF as a layer of a network: unrolled mean field, differentiable in all inputs and parameters.

S. Zheng et al., "Conditional Random Fields as Recurrent Neural Networks", ICCV 2015; there the bandwidths were fixed,
here they have gradients too. Extra ``torch``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from crispmask.errors import MissingExtraError, ParamsError, ShapeError, ValueRangeError

try:
    import torch
    from torch import Tensor, nn
except ModuleNotFoundError:
    raise MissingExtraError("torch", "torch") from None

from crispmask.crf._attention import AttentionKernel
from crispmask.crf._lattice_autograd import Derivative, LatticeKernel
from crispmask.crf._smoothness import CutSmoothness, ExactSmoothness
from crispmask.crf.normalization import Normalization, check
from crispmask.params import CRFParams

Engine = Literal["exact", "lattice", "auto"]
# Up to here "auto" takes the exact engine: points of a window on the CPU, pairs of points in the batch on a GPU.
_EXACT_ON_CPU, _EXACT_ELSEWHERE = 256, 1 << 26
_EPSILON = 1e-20  # as in `normalization.factors`
_NAMES = ("theta_alpha", "theta_beta", "theta_gamma", "bilateral_weight", "smoothness_weight")


class CRFLayer(nn.Module):
    """Mean-field inference in a fully connected CRF, as a module with learnable parameters.

    The energy, the kernels and the normalisations are those of `crispmask.crf.DenseCRF`:
    w1·exp(-|p_i - p_j|²/2θα² - Σ_c (I_ic - I_jc)²/2θβ²) + w2·exp(-|p_i - p_j|²/2θγ²). There are gradients
    with respect to the unary, the image (colours, or a network's features), the weights, the bandwidths and the
    compatibility. Weights and bandwidths are kept as logarithms, so that no step of an optimiser makes them negative.

    Args:
        theta_alpha: bandwidth of positions in the appearance kernel, in steps of the grid, or in the unit of `spacing`
            if `forward` gets one; None leaves the positions out, for features that include them.
        theta_beta: bandwidth of the image's channels, in their unit: one number, or one per channel.
        bilateral_weight: w1; at 0 there is no appearance kernel.
        theta_gamma: bandwidth of the smoothness kernel, in steps of the grid.
        smoothness_weight: w2; at 0 there is no smoothness kernel.
        compatibility: penalties μ, float (L, L), a parameter too; None for a fixed Potts model.
        iterations: mean-field updates.
        normalization: of the kernels; see `crispmask.crf.Kernel`.
        self_term: whether a pixel's message to itself is kept.
        engine: "exact" (attention; time quadratic and memory linear in pixels), "lattice" (the permutohedral lattice;
            time linear in pixels; marginals and gradients approximate), or "auto": exact for grids so small that it is
            faster, else the lattice. Both work on any device.
        derivative: what the lattice's gradients to image, θα and θβ are those of: "gaussian", the kernel that it
            approximates, a better direction to learn in; or "lattice", what it computes, piece by piece. The other
            gradients are those of what it computes in any case. The exact engine does not look at it.

    Attributes:
        log_theta_alpha, log_theta_beta, log_theta_gamma, log_bilateral_weight, log_smoothness_weight, compatibility:
            the parameters; None for those that are left out. ``requires_grad_(False)`` keeps one fixed.

    Raises:
        ParamsError, ValueRangeError: a number out of its range, an unknown engine or normalisation.
        ShapeError: a compatibility that is not square.

    Example:
        >>> layer = CRFLayer(theta_alpha=8.0, theta_beta=20.0)
        >>> marginals = layer(torch.zeros(1, 2, 16, 16), torch.rand(1, 3, 16, 16))
        >>> tuple(marginals.shape)
        (1, 2, 16, 16)
    """

    def __init__(
        self,
        *,
        theta_alpha: float | None = 60.0,
        theta_beta: float | Sequence[float] = 10.0,
        bilateral_weight: float = 3.0,
        theta_gamma: float = 1.0,
        smoothness_weight: float = 1.0,
        compatibility: Tensor | None = None,
        iterations: int = 5,
        normalization: Normalization = "symmetric",
        self_term: bool = True,
        engine: Engine = "exact",
        derivative: Derivative = "gaussian",
    ) -> None:
        super().__init__()
        for name, value, known in (("engine", engine, Engine), ("derivative", derivative, Derivative)):
            if value not in get_args(known):
                raise ParamsError(f"{name} must be one of {', '.join(get_args(known))}, got {value!r}")
        if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 0:
            raise ValueRangeError(f"iterations must be a whole number of at least 0, got {iterations!r}")
        self.engine, self.iterations, self.self_term = engine, iterations, bool(self_term)
        self.derivative = derivative
        self.normalization = check(normalization)
        appearance, smoothness = bilateral_weight != 0, smoothness_weight != 0
        self.log_theta_alpha = _logarithm("theta_alpha", theta_alpha, appearance and theta_alpha is not None)
        self.log_theta_beta = _logarithm("theta_beta", theta_beta, appearance)
        self.log_bilateral_weight = _logarithm("bilateral_weight", bilateral_weight, appearance)
        self.log_theta_gamma = _logarithm("theta_gamma", theta_gamma, smoothness)
        self.log_smoothness_weight = _logarithm("smoothness_weight", smoothness_weight, smoothness)
        if compatibility is not None:
            compatibility = torch.as_tensor(compatibility, dtype=torch.get_default_dtype()).clone()
            if compatibility.ndim != 2 or compatibility.shape[0] != compatibility.shape[1]:
                raise ShapeError(f"the compatibility must have shape (L, L), got {tuple(compatibility.shape)}")
            compatibility = nn.Parameter(compatibility)
        self.compatibility = compatibility

    @classmethod
    def from_params(cls, params: CRFParams, *, engine: Engine = "exact") -> CRFLayer:
        """A layer with the CRF of `crispmask.refine`; its ``theta_alpha`` is in the unit that the parameters have."""
        return cls(
            theta_alpha=params.theta_alpha,
            theta_beta=params.theta_beta,
            bilateral_weight=params.bilateral_weight,
            theta_gamma=params.theta_gamma,
            smoothness_weight=params.smoothness_weight,
            iterations=params.iterations,
            normalization=params.normalization,
            self_term=params.self_term,
            engine=engine,
        )

    def to_params(self, base: CRFParams | None = None) -> CRFParams:
        """The layer's parameters as `CRFParams`; all others are taken from `base`.

        Raises:
            ParamsError: a layer that `CRFParams` cannot describe: with one bandwidth per channel, without positions, or
                with another compatibility than Potts; or a value outside the range of `CRFParams`.
        """
        values = {name: value.detach().double() for name, value in self.values().items()}
        if self.compatibility is not None or any(value.ndim for value in values.values()):
            raise ParamsError("only a Potts model with a single theta_beta can be written as CRFParams")
        if "theta_beta" in values and "theta_alpha" not in values:
            raise ParamsError("an appearance kernel without positions cannot be written as CRFParams")
        known: dict[str, Any] = {"bilateral_weight": 0.0, "smoothness_weight": 0.0}
        known |= {name: float(value) for name, value in values.items()}
        known |= {"iterations": self.iterations, "normalization": self.normalization, "self_term": self.self_term}
        return replace(base or CRFParams(), **known)

    def values(self) -> dict[str, Tensor]:
        """Bandwidths and weights by name, differentiable; without those that are left out."""
        parameters = {name: getattr(self, f"log_{name}") for name in _NAMES}
        # In float64, so that all devices round alike: a last bit decides which vertices the lattice has.
        return {name: p.double().exp().to(p.dtype) for name, p in parameters.items() if p is not None}

    def extra_repr(self) -> str:
        return f"engine={self.engine}, iterations={self.iterations}, normalization={self.normalization}"

    def forward(
        self, unary: Tensor, image: Tensor, mask: Tensor | None = None, spacing: Tensor | None = None
    ) -> Tensor:
        """Marginals after `iterations` parallel updates, starting from softmax(-unary).

        Args:
            unary: float (B, L, H, W) energies (negative log-probabilities up to a constant per pixel), L >= 2.
            image: float (B, C, H, W): colours, or any other channels, in the unit of theta_beta.
            mask: bool (B, H, W), False for padding, which has no effect whatever its values; None for no padding.
            spacing: (B, 2), distances between neighbouring pixels along y and x in the unit of theta_alpha; by default
                1. With 1 / sqrt(area of an instance's box), theta_alpha is a multiple of the instance's size.

        Returns:
            (B, L, H, W), float64 if the unary is, else float32; uniform where the mask is False.

        Raises:
            ShapeError: tensors that do not fit each other.
            ValueRangeError: with "lattice", NaN or features that the lattice cannot hold.
        """
        _check_shapes(unary, image, mask, spacing, self.compatibility)
        dtype = torch.float64 if unary.dtype == torch.float64 else torch.float32
        exact = self.engine == "exact" or (self.engine == "auto" and _exact_is_faster(unary))
        # torch.compile cannot compile Numba's functions, nor sorting: the lattice is a break in the graph.
        infer = self._infer if exact else torch.compiler.disable(self._infer)
        with torch.autocast(unary.device.type, enabled=False):
            return infer(unary.to(dtype), image.to(dtype), mask, spacing, exact)

    def _infer(self, unary: Tensor, image: Tensor, mask: Tensor | None, spacing: Tensor | None, exact: bool) -> Tensor:
        labels = unary.shape[1]
        valid = None if mask is None else mask.flatten(1)
        energies = _points(unary, valid)
        seen = energies.new_ones(*energies.shape[:2], 1) if valid is None else valid[..., None].to(energies.dtype)
        messages = self._messages(image, valid, spacing, seen, labels - 1, exact)
        # Marginals sum to one and filters are linear: the first label's message is the whole minus the others'.
        whole = sum(message(seen) for message in messages)
        q = torch.softmax(-energies, 2)
        for _ in range(self.iterations if messages else 0):
            others = sum(message(q[..., 1:] * seen) for message in messages)
            received = torch.cat([whole - others.sum(2, keepdim=True), others], 2)
            if self.compatibility is None:  # Potts: the sum over other labels is a constant minus the own one
                q = torch.softmax(received - energies, 2)
            else:
                q = torch.softmax(-energies - received @ self.compatibility.to(received.dtype).T, 2)
        if valid is not None:
            q = torch.where(valid[..., None], q, 1 / labels)
        return q.transpose(1, 2).contiguous().view(unary.shape)  # some losses accept only this memory layout

    def _messages(
        self, image: Tensor, valid: Tensor | None, spacing: Tensor | None, seen: Tensor, channels: int, exact: bool
    ) -> list[_Message]:
        grid = (image.shape[2], image.shape[3])
        values = {name: value.to(seen.dtype) for name, value in self.values().items()}
        kernels: list[tuple[Any, Tensor]] = []
        if "bilateral_weight" in values:
            features = _points(image, valid) / values["theta_beta"]
            if "theta_alpha" in values:
                positions = _positions(grid, spacing, image) / values["theta_alpha"]
                features = torch.cat([positions.expand(len(image), -1, -1), features], 2)
            appearance = (
                AttentionKernel(features, valid, channels)
                if exact
                else LatticeKernel(features, valid, channels, self.derivative)
            )
            kernels.append((appearance, values["bilateral_weight"]))
        if "smoothness_weight" in values:
            smoothness = ExactSmoothness if exact else CutSmoothness
            kernels.append((smoothness(values["theta_gamma"], grid), values["smoothness_weight"]))
        return [_Message(kernel, weight, self.normalization, self.self_term, seen) for kernel, weight in kernels]


class _Message:
    """Q -> weight · post · K (pre · Q), without the self term if that is left out; see `crispmask.crf.messages`."""

    def __init__(
        self, kernel: Any, weight: Tensor, normalization: Normalization, self_term: bool, seen: Tensor
    ) -> None:
        self._kernel, self._own = kernel, 0.0 if self_term else kernel.own
        self._pre: Tensor | None = None
        self._post = weight
        if normalization == "none":
            return
        sums = torch.where(seen > 0, kernel.filter(seen), 1) + _EPSILON
        if normalization == "symmetric":
            self._pre = torch.rsqrt(sums)
            self._post = weight * self._pre
        elif normalization == "before":
            self._pre = 1 / sums
        else:
            self._post = weight / sums

    def __call__(self, values: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        scaled = values if self._pre is None else values * self._pre
        return (self._kernel.filter(scaled) - self._own * scaled) * self._post


def _exact_is_faster(unary: Tensor) -> bool:
    pixels = unary.shape[2] * unary.shape[3]
    if unary.device.type == "cpu":
        return pixels <= _EXACT_ON_CPU
    return len(unary) * pixels**2 <= _EXACT_ELSEWHERE


def _logarithm(name: str, value: float | Sequence[float] | None, used: bool) -> nn.Parameter | None:
    """The logarithm as a `Parameter`; None if it is not used."""
    if not used:
        return None
    numbers = torch.as_tensor(value, dtype=torch.get_default_dtype())
    if numbers.ndim > 1 or not (torch.isfinite(numbers) & (numbers > 0)).all():
        raise ParamsError(f"{name} must be positive and finite, got {value!r}")
    return nn.Parameter(numbers.log())


def _points(maps: Tensor, valid: Tensor | None) -> Tensor:
    """(B, C, H, W) to (B, N, C), with zeros for padding."""
    points = maps.flatten(2).transpose(1, 2)
    return points if valid is None else torch.where(valid[..., None], points, 0)


def _positions(grid: tuple[int, int], spacing: Tensor | None, like: Tensor) -> Tensor:
    """(B or 1, N, 2): column and row."""
    rows, columns = (torch.arange(n, device=like.device, dtype=like.dtype) for n in grid)
    points = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), 2).reshape(1, -1, 2)
    return points if spacing is None else points * spacing.to(like).flip(1)[:, None]


def _check_shapes(
    unary: Tensor, image: Tensor, mask: Tensor | None, spacing: Tensor | None, compatibility: Tensor | None
) -> None:
    if unary.ndim != 4 or unary.shape[1] < 2:
        raise ShapeError(f"the unary must have shape (B, L, H, W) with at least two labels, got {tuple(unary.shape)}")
    batch, labels, height, width = unary.shape
    if image.ndim != 4 or image.shape[0] != batch or image.shape[2:] != unary.shape[2:]:
        raise ShapeError(f"the image must have shape ({batch}, C, {height}, {width}), got {tuple(image.shape)}")
    if mask is not None and (mask.shape != (batch, height, width) or mask.dtype != torch.bool):
        raise ShapeError(
            f"the mask must be bool of shape ({batch}, {height}, {width}), got {mask.dtype} {tuple(mask.shape)}"
        )
    if spacing is not None and spacing.shape != (batch, 2):
        raise ShapeError(f"spacing must have shape ({batch}, 2), got {tuple(spacing.shape)}")
    if compatibility is not None and compatibility.shape[0] != labels:
        raise ShapeError(f"the compatibility is for {compatibility.shape[0]} labels, the unary has {labels}")
