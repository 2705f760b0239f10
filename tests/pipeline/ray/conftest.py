from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folder `photos` with six small photos, two of them in sub-folders."""
    folder = tmp_path / "photos"
    for name in ("b.png", "a.jpg", "sub/a.jpg", "sub/deep/c.png", "d.webp", "e.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((40, 56, 3), np.uint8)).save(folder / name)
    return folder
