from __future__ import annotations

import pytest

from .kills import CASES, check


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_killed_command_goes_on_with_the_same_bytes(name):
    check(name, kills=1 if name in ("learn", "train") else 2, seed=0)
