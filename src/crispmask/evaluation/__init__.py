"""Evaluation: COCO metrics of masks, boxes and boundaries, matched instances, intervals, and the report."""

from __future__ import annotations

from crispmask.evaluation.metrics import evaluate

__all__ = ["evaluate"]
