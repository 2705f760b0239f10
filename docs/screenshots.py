"""Takes the screenshots of app.md: ``python docs/screenshots.py`` (needs Chromium, which CHROMIUM may name)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from crispmask.app.server import in_background, serve

IMAGES = Path(__file__).parent / "images"
SIZES = {
    "app.jpg": {"viewport": {"width": 1440, "height": 900}},
    "app_phone.jpg": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}


def main() -> None:
    """Serve the page, open two samples, choose an object, and take a picture at each size."""
    address = in_background(serve, port=0)
    with sync_playwright() as playwright:
        program = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for name, options in SIZES.items():
            page = browser.new_page(**options)
            page.goto(address)
            page.click("#samples button[title=astronaut]")
            page.wait_for_selector("#objects .pick", timeout=60_000)
            page.click("#objects .pick")
            page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
            page.wait_for_timeout(7000)  # until the hint has faded
            page.screenshot(path=IMAGES / name, type="jpeg", quality=85)
        browser.close()


if __name__ == "__main__":
    main()
