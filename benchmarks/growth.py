"""How does the time of the dense CRF grow with pixels, labels and instances?

    python benchmarks/growth.py -o growth.png
    python benchmarks/growth.py --sides 256,512,1024 --labels 2,8,32 --instances 1,10

Processor time of one thread, the best of `--repeats`; pydensecrf2, where installed, in the same run up to
`--peer-pixels`. The exponent is the slope of log time over log pixels (1 is linear), by least squares from 512² on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import crf
import numpy as np
from scipy.stats import linregress

from crispmask.plots import Axis, Line, Panel, draw_panels


def main() -> None:
    options = arguments()
    pixels, labels, instances = [], [], []
    for side in options.sides:
        photo = crf.load(options.image, (side, side))
        unary = crf.unaries(photo.shape[:2], 2)
        pixels.append((side * side, *both(photo, unary, options.repeats, options.peer_pixels)))
        print(f"{side}x{side}: {cells(pixels[-1])}", flush=True)
    photo = crf.load(options.image, (640, 480))
    for count in options.labels:
        unary = crf.unaries(photo.shape[:2], count)
        labels.append((count, *both(photo, unary, options.repeats, options.peer_pixels)))
        print(f"{count} labels, 640x480: {cells(labels[-1])}", flush=True)
    window = crf.instances(photo.shape[:2])[5]
    for count in options.instances:
        work = lambda count=count: [crf.window(photo, window) for _ in range(count)]  # noqa: E731
        instances.append((count, best(work, options.repeats), float("nan")))
        print(f"{count} instances of {window[2].size} pixels: {cells(instances[-1])}", flush=True)
    for name, rows in (("pixels", [row for row in pixels if row[0] >= 512**2]), ("instances", instances)):
        if len(rows) > 2:
            fit = linregress(np.log([row[0] for row in rows]), np.log([row[1] for row in rows]))
            print(f"time ~ {name}^{fit.slope:.2f}, R² = {fit.rvalue**2:.4f}")
    if options.output:
        draw(options.output, pixels, labels, instances)


Row = tuple[int, float, float]


def both(photo: np.ndarray, unary: np.ndarray, repeats: int, peer_pixels: int) -> tuple[float, float]:
    """Seconds that crispmask and pydensecrf2 take; NaN where the peer is not run."""
    new = best(lambda: crf.ours(photo, unary), repeats)
    small = unary.size <= 2 * peer_pixels
    return new, best(lambda: crf.theirs(photo, unary), 1) if crf.peer and small else float("nan")


def best(work: Callable[[], object], repeats: int) -> float:
    """The least processor time of the calling thread, in seconds; after a first run that compiles."""
    if repeats > 1:
        work()
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


def cells(row: Row) -> str:
    peer = "" if np.isnan(row[2]) else f", pydensecrf2 {row[2]:.3f} s ({row[2] / row[1]:.1f} x)"
    return f"{row[1]:.3f} s{peer}"


def draw(path: Path, pixels: list[Row], labels: list[Row], instances: list[Row]) -> None:
    def panel(rows: list[Row], title: str, x: str, unit: float = 1) -> Panel:
        lines = []
        for column, name in ((1, "crispmask"), (2, "pydensecrf2")):
            known = [row for row in rows if not np.isnan(row[column])]
            if known:
                lines.append(Line([row[0] / unit for row in known], [row[column] for row in known], name))
        return Panel(Axis(x, log=True), Axis("seconds, one thread", log=True), lines, title)

    draw_panels(
        path,
        [
            panel(pixels, "Pixels, two labels", "megapixels", 1e6),
            panel(labels, "Labels, 640x480", "labels"),
            panel(instances, "Instances, a window each", "instances"),
        ],
        columns=3,
    )


def arguments() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",") if part]

    parser = argparse.ArgumentParser(description="Time the dense CRF by pixels, labels and instances.")
    parser.add_argument("--image", default="astronaut", help="a file, or an image of scikit-image by name")
    parser.add_argument("--sides", type=numbers, default=[128, 256, 512, 1024, 2048, 4096], help="of square images")
    parser.add_argument("--labels", type=numbers, default=[2, 3, 5, 8, 16, 21, 32, 64])
    parser.add_argument("--instances", type=numbers, default=[1, 3, 10, 30, 100])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--peer-pixels", type=int, default=10 * 1024**2, help="the peer runs up to so many pixels of two labels"
    )
    parser.add_argument("-o", "--output", type=Path, help="write the curves as a PNG")
    return parser.parse_args()


if __name__ == "__main__":
    main()
