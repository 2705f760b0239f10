"""What the gate is told of a mask, counted cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispmask.refinement.features import Cells


def edge(mask: np.ndarray) -> np.ndarray:
    found = np.zeros_like(mask)
    found[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    found[:-1] |= mask[:-1] != mask[1:]
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.sampled_from([0.3, 3.0, 30.0]), st.booleans(), st.integers(0, 999))
def test_cells(size: int, spread: float, empty: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompt = np.zeros((size, size), np.float32) if empty else rng.random((size, size), np.float32)
    odds = rng.normal(0, spread, (size, size)).astype(np.float32)
    found = Cells.of(prompt, odds)
    p, inside, chosen = 1 / (1 + np.exp(-odds.astype(np.float64))), prompt > 0.5, odds > 0
    counts = (
        edge(inside),
        edge(chosen),
        inside != chosen,
        (inside != chosen) & (np.abs(odds) > 2),
        inside | chosen,
        inside,
        chosen,
        (prompt > 0.1) & (prompt < 0.9),
        (p > 0.1) & (p < 0.9),
    )
    assert found[:9] == tuple(int(count.sum()) for count in counts)
    assert found[9:12] == pytest.approx((p.sum(), p[inside].sum(), p[chosen].sum()), rel=1e-5, abs=1e-5)
    along = np.abs(odds[edge(inside)])
    assert found.median == pytest.approx(np.median(along) if len(along) else 0, rel=1e-6)
