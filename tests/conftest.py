"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real photos with annotations (`coco`, `penn_fudan`), which is not part of the repository."""
    root = Path(os.environ.get("CRISPMASK_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not root.is_dir():
        pytest.skip("the annotated photos are not here: set CRISPMASK_SHARED to the folder that holds data/")
    return root


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """Public-domain photo of a person: uint8 (512, 512, 3)."""
    from skimage import data

    return data.astronaut()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With CRISPMASK_NO_SKIPS set, a skipped test fails the run: it says that everything is installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("CRISPMASK_NO_SKIPS") and skipped and exitstatus == 0:
        reporter.write_line(f"{len(skipped)} skipped, and CRISPMASK_NO_SKIPS is set:", red=True)
        for report in skipped:
            reporter.write_line(f"  {report.nodeid}: {report.longrepr}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def tricky_masks() -> dict[str, np.ndarray]:
    """Masks that break careless conversions, bool (37, 53) by name: holes, parts, one pixel, every edge, all."""
    names = ("holes", "parts", "one pixel", "corner pixel", "edges", "full", "diagonal")
    masks = {name: np.zeros((37, 53), bool) for name in names}
    masks["holes"][5:25, 8:40] = True
    masks["holes"][8:12, 10:16] = False
    masks["holes"][15, 20] = False
    masks["parts"][2:6, 3:9] = True
    masks["parts"][20:30, 40:50] = True
    masks["parts"][12, 12] = True
    masks["one pixel"][17, 31] = True
    masks["corner pixel"][-1, -1] = True
    masks["edges"][:, :4] = True
    masks["edges"][-3:, :] = True
    masks["edges"][0, :] = True
    masks["edges"][10:15, -1] = True
    masks["full"][:] = True
    np.fill_diagonal(masks["diagonal"], True)
    return masks
