"""Refinement: every mask is pulled onto the object's edge by a network and a dense CRF, each in its own window."""

from __future__ import annotations

from crispmask.refinement.learned import Decision, LearnedParams
from crispmask.refinement.masks import (
    Params,
    checked_params,
    explain,
    instance_crf,
    refine,
    refine_each,
    refine_instances,
    refine_together,
)
from crispmask.refinement.named import default_params, read_params

__all__ = [
    "Decision",
    "LearnedParams",
    "Params",
    "checked_params",
    "default_params",
    "explain",
    "instance_crf",
    "read_params",
    "refine",
    "refine_each",
    "refine_instances",
    "refine_together",
]
