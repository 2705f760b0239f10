"""The page and its interface, served for real on a loopback address."""

from __future__ import annotations

import os
import shutil

import pytest

from crispmask.samples import sample_images

pytest.importorskip("fastapi", reason="the extra 'app' is not installed")

MAX_PIXELS, MAX_UPLOAD = 10_000_000, 3_000_000
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def server() -> str:
    """Address of a running page with the embedded detector."""
    from crispmask.app.server import in_background, serve

    return in_background(serve, port=0, max_pixels=MAX_PIXELS, max_upload=MAX_UPLOAD)


@pytest.fixture(scope="session")
def image() -> bytes:
    """A sample image of a person, as a JPEG file."""
    return next(p for p in sample_images() if p.stem == "astronaut").read_bytes()


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium: Debian's package, or the one that CHROMIUM names."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield opened
        opened.close()
