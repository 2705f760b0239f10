"""Five public-domain images of different things for the demo and the tests; their origin is in ``LICENSES.md``."""

from __future__ import annotations

from pathlib import Path


def sample_images() -> list[Path]:
    """The image files, sorted by name."""
    return sorted(Path(__file__).parent.glob("*.jpg"))
