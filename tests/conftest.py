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
