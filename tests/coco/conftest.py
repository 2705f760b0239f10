"""Fixtures of the evaluation's tests that data sets are tested with too."""

from __future__ import annotations

from ..evaluation.conftest import synthetic

__all__ = ["synthetic"]
