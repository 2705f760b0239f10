from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from crispmask.params import CRFParams
from crispmask.refinement import LearnedParams, Setting
from crispmask.refinement.features import FEATURES
from crispmask.refinement.rules import Rules


@pytest.fixture
def always() -> Callable[[list[float]], Rules]:
    """Makes rules that expect the same gains of every instance."""

    return partial(Rules.constant, FEATURES)


@pytest.fixture
def two_settings() -> tuple[Setting, ...]:
    return (Setting("light", CRFParams(bilateral_weight=1.0)), Setting("strong", CRFParams(bilateral_weight=4.0)))


@pytest.fixture
def learnt(two_settings, always) -> LearnedParams:
    return LearnedParams(two_settings, always([0.01, 0.02]))
