from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from crispmask.errors import MissingExtraError
from crispmask.plots import Axis, Line, Panel, draw_heat_map, draw_panels


def panels() -> list[Panel]:
    x = np.arange(1, 40)
    line = Line(x, x**0.5, "roots", band=(x**0.4, x**0.6))
    full = Panel(
        Axis("n", log=True), Axis("√n"), [line, Line(x, x**0.3, thin=True)], "Roots", {"three": 3.0}, at=("here", 9)
    )
    return [full, Panel(Axis("n"), Axis("√n"), [Line([1, 2], [3, np.nan])], points=True, star=(1, 3)), full]


def test_figures_are_pngs_and_the_same_every_time(tmp_path):
    for name in ("a.png", "b.png"):
        draw_panels(tmp_path / name, panels())
        draw_heat_map(
            tmp_path / f"heat_{name}", [1, 2], ["x", 0.5, 3], [[1, 2, np.nan], [4, 5, 6]],
            row_label="r", column_label="c", value_label="v, %", star=(1, 2), counts={(0, 0): "1/2"}, note="n",
        )  # fmt: skip
    for kind in ("", "heat_"):
        assert (tmp_path / f"{kind}a.png").read_bytes() == (tmp_path / f"{kind}b.png").read_bytes()
        assert np.asarray(Image.open(tmp_path / f"{kind}a.png").convert("L")).std() > 5
    assert len(list(tmp_path.iterdir())) == 4


def test_process_wide_settings_stay(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_panels(tmp_path / "a.png", panels())
    assert dict(matplotlib.rcParams) == before


def test_a_missing_matplotlib_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib is needed .* pip install 'crispmask\[tune\]'"):
        draw_panels(tmp_path / "a.png", panels())
    assert not list(tmp_path.iterdir())
