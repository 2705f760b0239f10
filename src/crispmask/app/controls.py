"""The page's controls for `CRFParams`, made from its fields, so that names, defaults and help are written once."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args, get_type_hints

import gradio as gr

from crispmask.params import CRFParams
from crispmask.refinement import LearnedParams, default_params

# Useful ranges: lowest value, highest value, step. The limits of `CRFParams` are wider.
RANGES: dict[str, tuple[float, float, float]] = {
    "theta_alpha": (0.01, 1, 0.01),
    "theta_beta": (0.5, 30, 0.5),
    "bilateral_weight": (0, 20, 0.1),
    "theta_gamma": (0.2, 10, 0.1),
    "smoothness_weight": (0, 20, 0.1),
    "iterations": (0, 30, 1),
    "smoothing": (0, 0.2, 0.005),
    "smoothing_soft": (0, 0.2, 0.005),
    "confidence": (0.51, 0.999, 0.001),
    "context": (0, 1, 0.05),
    "context_min": (0, 100, 1),
    "clean": (0, 0.1, 0.001),
}
PIXELS = (1, 200, 1)
"""The same for theta_alpha in pixels."""

FIRST = ("theta_alpha", "theta_beta", "theta_gamma", "bilateral_weight", "smoothness_weight", "smoothing", "iterations")
"""The controls that are always shown; the others are in a section that opens by a click."""


def control(name: str) -> Any:
    """The control of one parameter."""
    item = next(item for item in fields(CRFParams) if item.name == name)
    kind = get_type_hints(CRFParams)[name]
    default: Any = item.default
    options = {"label": name.replace("_", " "), "info": item.metadata["help"], "elem_id": name, "interactive": True}
    if kind is bool:
        return gr.Checkbox(default, **options)
    if kind in (int, float):
        low, high, step = RANGES[name]
        return gr.Slider(low, high, default, step=step, **options)
    return gr.Dropdown(list(get_args(kind)), value=default, **options)


def settings(params: CRFParams) -> list[Any]:
    """Updates that set the controls, in the order of the fields; the range of theta_alpha depends on its unit."""
    low, high, step = PIXELS if params.theta_alpha_scale == "pixel" else RANGES["theta_alpha"]
    values = params.as_dict()
    return [
        gr.update(value=value, minimum=low, maximum=high, step=step)
        if name == "theta_alpha"
        else gr.update(value=value)
        for name, value in values.items()
    ]


LEARNED, BY_HAND = "learned", "by hand"


def params_from(values: tuple[Any, ...]) -> CRFParams | LearnedParams:
    """The parameters that the controls show: `LEARNED` or `BY_HAND`, and the fields of `CRFParams`."""
    if values[0] == LEARNED:
        return default_params()
    return CRFParams.from_dict(dict(zip(CRFParams().as_dict(), values[1:], strict=True)), source="page")
