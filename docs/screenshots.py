"""Takes the screenshots of app.md: ``python docs/screenshots.py`` (needs Chromium, which CHROMIUM may name)."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

from crispmask.app.server import serve

IMAGES = Path(__file__).parent / "images"
SIZES = {"app.jpg": (1500, 1180), "app_phone.jpg": (390, 1100)}


def main() -> None:
    """Serve the page, segment a sample, and take a picture at each size."""
    address: list[str] = []
    ready = threading.Event()

    def on_ready(found: str) -> None:
        address.append(found)
        ready.set()

    threading.Thread(target=serve, kwargs={"port": 0, "on_ready": on_ready}, daemon=True).start()
    ready.wait(60)
    with sync_playwright() as playwright:
        program = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(address[0])
            page.click("#samples label:has-text('astronaut')")
            page.wait_for_function("document.querySelector('#summary').innerText.includes('1 mask')", timeout=60_000)
            page.wait_for_timeout(1500)
            page.screenshot(path=IMAGES / name, type="jpeg", quality=85)
        browser.close()


if __name__ == "__main__":
    main()
