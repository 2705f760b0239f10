"""How fast does the web page's server answer: an upload, the slider of the edge, clicks and a box?

    python benchmarks/page.py [PHOTO] [--repeats 9]

Starts the server on a loopback address, as `crispmask app` does, and asks what the page asks, over HTTP. Without a
photo a sample is scaled to 640 x 480. Prints wall-clock and processor time; needs the extra `app`.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from crispmask.app.server import in_background, serve
from crispmask.samples import sample_images


def sample() -> bytes:
    """A person and a rocket, 640 x 480, as a JPEG file."""
    photo = Image.open(next(path for path in sample_images() if path.stem == "astronaut"))
    file = io.BytesIO()
    photo.resize((640, 640)).crop((0, 0, 640, 480)).save(file, "JPEG", quality=92)
    return file.getvalue()


def timed(name: str, ask: Callable[[int], object], repeats: int) -> None:
    """A row: medians over the repeats after a first, and that first."""
    walls, cpus = [], []
    for k in range(repeats + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        ask(k)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    print(
        f"| {name} | {1000 * walls[0]:.0f} | {1000 * statistics.median(walls[1:]):.0f} "
        f"| {1000 * statistics.median(cpus[1:]):.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    content = options.photo.read_bytes() if options.photo else sample()
    with httpx.Client(base_url=in_background(serve, port=0), timeout=120) as client:
        score = client.get("/settings").json()["score"]

        def edit(key: str, **request: object) -> httpx.Response:
            return client.post(f"/photos/{key}/edit", json=request).raise_for_status()

        def upload() -> dict[str, Any]:
            opened: dict[str, Any] = client.post("/photos", files={"image": ("photo.jpg", content)}).json()
            return opened

        def find(key: str) -> httpx.Response:
            return edit(key, do="detect", score=score, classes=[], tiles=1)

        opened = upload()
        key, width, height = opened["id"], opened["width"], opened["height"]
        found = len(find(key).json()["objects"])
        print(f"{width} x {height} pixels, {found} objects\n")
        print("| request | first, ms | median of the rest, ms | processor, ms |\n| --- | ---: | ---: | ---: |")
        for name, ask in {
            "upload, and its objects found": lambda k: find(upload()["id"]),
            "slider of the edge": lambda k: edit(key, do="edge", edge=(-1, -0.5, 0, 0.5, 1)[k % 5]),
            "click": lambda k: edit(key, do="click", at=[width * (0.3 + 0.04 * k), height * 0.4]),
            "box": lambda k: edit(key, do="box", box=[width * 0.3 + 5 * k, height * 0.3, width * 0.7, height * 0.9]),
        }.items():
            timed(name, ask, options.repeats)


if __name__ == "__main__":
    main()
