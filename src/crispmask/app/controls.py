"""The controls of the page's section "Advanced", made from the fields of `CRFParams`, in plain words."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple, get_args, get_type_hints

from crispmask.app.scene import METHODS
from crispmask.params import CRFParams
from crispmask.refinement import Params

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


class Words(NamedTuple):
    """A control's name and what it does."""

    name: str
    does: str


WORDS: dict[str, Words] = {
    "bilateral_weight": Words("Pull of the photo's edges", "how strongly similar pixels nearby get the same answer"),
    "theta_beta": Words("Similar colours", "how different two colours may be and still count as similar"),
    "theta_alpha": Words("Reach", "how far apart similar pixels may be; as a share of the object's size"),
    "theta_alpha_scale": Words("Unit of the reach", "a share of the object's size, or pixels"),
    "smoothness_weight": Words("Smoothness", "how strongly direct neighbours get the same answer"),
    "theta_gamma": Words("Reach of the smoothness", "in pixels"),
    "iterations": Words("Rounds", "how often pixels listen to each other"),
    "clean": Words("Remove specks", "parts and holes below this share of the object disappear"),
    "confidence": Words("Trust in the coarse mask", "how sure the mask is of itself at most"),
    "colour": Words("Colour space", "lab measures colours as the eye does, rgb as the file does"),
    "smoothing": Words("Soften hard masks", "blur before refining; as a share of the object's size"),
    "smoothing_soft": Words("Soften soft masks", "the same for masks that come with probabilities"),
    "context": Words("Margin", "how far around the object is looked; as a share of its box"),
    "context_min": Words("Smallest margin", "in pixels"),
    "normalization": Words("Normalisation", "how messages are weighed where pixels are crowded"),
    "self_term": Words("Pixels hear themselves", "keeps each pixel's message to itself"),
}
"""In the order of the page."""

NETWORK_LEAVES = ("smoothing", "smoothing_soft", "context")
"""What has no effect where the mask network makes the mask."""

METHOD_WORDS = {
    "learned": Words("Network, then edges", "a small network corrects the mask, the photo's edges finish it"),
    "fixed": Words("Edges only", "one setting for all objects, without the network"),
    "paper": Words("Published setting", "of the paper that introduced the method"),
}


def description() -> dict[str, Any]:
    """All controls and methods, for the page's script."""
    hints, known = get_type_hints(CRFParams), {item.name: item for item in fields(CRFParams)}
    controls = []
    for name, words in WORDS.items():
        item, kind = known[name], hints[name]
        control: dict[str, Any] = {"id": name, "name": words.name, "does": words.does, "help": item.metadata["help"]}
        if kind is bool:
            control["kind"] = "switch"
        elif name in RANGES:
            low, high, step = RANGES[name]
            control |= {"kind": "slider", "low": low, "high": high, "step": step}
        else:
            control |= {"kind": "choice", "choices": list(get_args(kind))}
        controls.append(control)
    methods = [
        {
            "id": key,
            "name": METHOD_WORDS[key].name,
            "does": METHOD_WORDS[key].does,
            "values": _crf(make()).as_dict(),
            "unused": list(NETWORK_LEAVES) if key == "learned" else [],
        }
        for key, make in METHODS.items()
    ]
    return {"controls": controls, "pixels": list(PIXELS), "methods": methods}


def _crf(params: Params) -> CRFParams:
    return params if isinstance(params, CRFParams) else params.crf
