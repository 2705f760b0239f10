"""Volumes, such as CT, MR and microscopy: the appearance kernel for (D, H, W) and masks refined with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from crispmask.arguments import as_array, number
from crispmask.crf.dense import two_label_marginals
from crispmask.crf.gaussian import bandwidths
from crispmask.crf.kernels import Bilateral, Gaussian
from crispmask.crf.lattice import MAX_DIMENSION
from crispmask.crf.normalization import Normalization
from crispmask.crf.tensors import host, numbers, on_gpu
from crispmask.errors import ShapeError, ValueRangeError


class VolumeBilateral(Bilateral):
    """The appearance kernel exp(-|p_i - p_j|²/2θα² - |I_i - I_j|²/2θβ²) in a volume.

    Args:
        volume: (D, H, W), or (D, H, W, C) with C up to 61 channels; integers or floats.
        theta_alpha: bandwidth of positions, in the unit of `spacing`; one number or (θz, θy, θx).
        theta_beta: bandwidth of the channels, in the unit of `volume`.
        weight, normalization, self_term: as for `Kernel`.
        spacing: distances between neighbouring voxels along z, y and x, such as millimetres.

    Raises:
        ShapeError, ValueRangeError: a volume of another shape, NaN, a bandwidth or spacing that is not positive.
    """

    def __init__(
        self,
        volume: ArrayLike,
        theta_alpha: float | tuple[float, float, float],
        theta_beta: float,
        weight: float,
        *,
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        normalization: Normalization = "symmetric",
        self_term: bool = True,
    ) -> None:
        given: Any = volume if on_gpu(volume) else host(volume)
        array = given if str(given.dtype).endswith("uint8") else numbers(given, "the volume")
        array = array[..., None] if array.ndim == 3 else array
        if array.ndim != 4 or 0 in array.shape or array.shape[3] > MAX_DIMENSION - 3:
            raise ShapeError(
                f"the volume must have shape (D, H, W) or (D, H, W, channels) with up to {MAX_DIMENSION - 3} channels, "
                f"got {tuple(given.shape)}"
            )
        self.image = array
        self.shape = tuple(array.shape[:3])
        alphas, steps = bandwidths(theta_alpha, "theta_alpha", 3), bandwidths(spacing, "spacing", 3)
        self.theta_alpha = tuple(a / s for a, s in zip(alphas, steps, strict=True))
        self.theta_beta = bandwidths(theta_beta, "theta_beta", 1)[0]
        self._set(weight, normalization, self_term, None)


def refine_volume(
    volume: ArrayLike,
    mask: ArrayLike,
    *,
    theta_alpha: float | tuple[float, float, float],
    theta_beta: float,
    bilateral_weight: float = 3.0,
    theta_gamma: float | tuple[float, float, float] = 1.0,
    smoothness_weight: float = 1.0,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    smoothing: float = 1.0,
    confidence: float = 0.9,
    iterations: int = 10,
    threads: int = 1,
) -> NDArray[np.float32]:
    """A mask of a volume, moved to the edges of the volume by the dense CRF.

    Nothing is learned here, and the bandwidths have no default: they depend on what the volume shows. Memory: about 90
    bytes a voxel at its peak for one channel, measured on 136³ voxels; 40 are the lattice's corners and weights.

    Args:
        volume: (D, H, W), or (D, H, W, C) for several channels: CT, MR, multispectral.
        mask: bool (D, H, W), or probabilities, float in [0, 1].
        theta_alpha, theta_gamma: bandwidths of positions in the unit of `spacing`; one number or (θz, θy, θx).
        theta_beta: bandwidth of intensities, in the unit of `volume`.
        bilateral_weight, smoothness_weight: weights of the two kernels; 0 leaves one out.
        spacing: distances between neighbouring voxels along z, y and x, such as millimetres; slices may be thicker.
        smoothing: standard deviation of the Gaussian that makes a mask's edge uncertain, in the unit of `spacing`.
        confidence: highest probability, above 0.5 and below 1, that the mask counts with.
        iterations: at least 0.
        threads: how many may work on it. The result has the same bits for any number.

    Returns:
        float32 (D, H, W), probabilities; above 0.5 is the mask.

    Raises:
        ShapeError: a volume and a mask that do not fit each other.
        ValueRangeError: numbers out of their range.
    """
    appearance = VolumeBilateral(volume, theta_alpha, theta_beta, bilateral_weight, spacing=spacing)
    soft = as_array(host(mask), "the mask")
    if soft.shape != appearance.shape:
        raise ShapeError(f"the mask must have the volume's shape {appearance.shape}, got {soft.shape}")
    soft = as_array(soft, "the mask", np.float32)
    if not (np.isfinite(soft).all() and soft.min() >= 0 and soft.max() <= 1):
        raise ValueRangeError("the mask must be bool, or probabilities from 0 to 1")
    confidence, smoothing = number(confidence, "confidence"), number(smoothing, "smoothing")
    if not 0.5 < confidence < 1 or smoothing < 0:
        raise ValueRangeError(
            f"confidence must be above 0.5 and below 1, smoothing at least 0, got {confidence!r} and {smoothing!r}"
        )
    steps = bandwidths(spacing, "spacing", 3)
    if smoothing:
        # From ten times the axis on, the Gaussian gives the axis's mean; SciPy's kernel would go on growing.
        soft = gaussian_filter(soft, [min(smoothing / s, 10 * n) for s, n in zip(steps, soft.shape, strict=True)])
    odds = np.clip(soft, 1 - confidence, confidence)
    odds = np.log(odds / (1 - odds))
    gammas = bandwidths(theta_gamma, "theta_gamma", 3)
    smooth = Gaussian(tuple(g / s for g, s in zip(gammas, steps, strict=True)), smoothness_weight)
    return two_label_marginals(odds, [appearance, smooth], iterations, threads=threads)
