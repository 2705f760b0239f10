"""The page's one slider: how closely the edge of a mask follows the photo."""

from __future__ import annotations

from typing import Any

from crispmask.params import CRFParams
from crispmask.refinement import LearnedParams, Params

# What the ends of the slider multiply a parameter with. None of them changes the lattice, so that the answer is quick.
SOFTER = {"bilateral_weight": 0.06, "smoothness_weight": 1.5, "theta_gamma": 2.5}
TIGHTER = {"bilateral_weight": 4.0, "smoothness_weight": 0.4, "theta_gamma": 0.7}


def at(params: Params, edge: float) -> Params:
    """The parameters at a position of the slider.

    Args:
        params: those of the middle.
        edge: from -1, a soft edge that follows the shape of the mask, to 1, a tight one that follows the photo; at 0
            the parameters themselves, elsewhere they refine every mask.
    """
    if edge == 0:
        return params
    crf = params if isinstance(params, CRFParams) else params.crf
    ends = SOFTER if edge < 0 else TIGHTER
    values: dict[str, Any] = {name: getattr(crf, name) * factor ** abs(edge) for name, factor in ends.items()}
    values = {name: round(value, 3) for name, value in values.items()}  # for the command line that shows them
    if isinstance(params, LearnedParams):
        return params.with_overrides({**values, "gated": "none"})
    return CRFParams.from_dict({**params.as_dict(), **values}, source="page")
