"""Evaluation: average precision of masks, boxes and boundaries, matched instances, intervals, and the report."""

from __future__ import annotations

from crispmask.evaluation.api import evaluate
from crispmask.evaluation.comparison import Comparison
from crispmask.evaluation.metrics import average_precision

__all__ = ["Comparison", "average_precision", "evaluate"]
