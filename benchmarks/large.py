"""What do photos of 100 megapixels take: `crispmask segment`, `refine` and `cutout`, ten objects each?

    python benchmarks/large.py                      # 11600 x 8700 pixels
    python benchmarks/large.py --width 5800 --commands cutout

Makes two photos from the samples, enlarged, with noise and a fine texture: in `many` twelve of them side by side, in
`one` a single one that fills it. `refine` gets ten elliptic masks with coarse edges: one fills the photo, the others
have a tenth of it. Prints a Markdown table: wall-clock time, processor time, the highest memory of the process. The
first run compiles, so each command runs once before on a small photo.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from crispmask.coco import mask_to_rle
from crispmask.samples import sample_images

COMMANDS = ("segment", "refine", "cutout")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=11600, help="of the photos, pixels; three quarters as high")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="which of them, with commas between")
    options = parser.parse_args()
    commands = options.commands.split(",")
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: Linux counts the memory of the process that starts another one as that one's.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            warm = pool.submit(prepare, Path(folder) / "small", 800).result()
            large = pool.submit(prepare, Path(folder) / "large", options.width).result()
        for command in commands:
            run(command, warm, "many")
        print("| photo | command | objects | seconds | processor seconds | MB |\n| --- | --- | --- | --- | --- | --- |")
        for photo in ("many", "one"):
            for command in commands:
                objects, wall, cpu, memory = run(command, large, photo)
                print(f"| {photo} | {command} | {objects} | {wall:.1f} | {cpu:.1f} | {memory:.0f} |", flush=True)


def prepare(folder: Path, width: int) -> Path:
    """A folder with the photos and a results file for each."""
    height = 3 * width // 4
    folder.mkdir()
    samples = [Image.open(path).convert("RGB") for path in sample_images()]
    many, side = np.empty((height, width, 3), np.uint8), (width // 4, height // 3)
    for k in range(12):
        left, top = k % 4 * side[0], k // 4 * side[1]
        many[top : top + side[1], left : left + side[0]] = samples[k % len(samples)].resize(side)
    one = np.array(samples[0].crop((0, 0, 512, 384)).resize((width, height)))
    images = []
    for number, (name, photo) in enumerate((("many", many), ("one", one)), start=1):
        roughen(photo)
        Image.fromarray(photo).save(folder / f"{name}.jpg", quality=92)
        images.append({"id": number, "file_name": f"{name}.jpg", "height": height, "width": width})
        records = [record(mask, number) for mask in ellipses(height, width)]
        (folder / f"{name}.json").write_text(json.dumps(records))
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def roughen(photo: np.ndarray) -> None:
    """Noise and a texture of some pixels, as a sharp photo has them; in place."""
    rng = np.random.default_rng(0)
    for top in range(0, len(photo), 256):
        part = photo[top : top + 256]
        y, x = np.mgrid[top : top + len(part), : part.shape[1]]
        texture = 4 * np.sin(x / 7) * np.sin(y / 5) + rng.normal(0, 8, x.shape)
        part[:] = np.clip(part + texture[:, :, None] + rng.normal(0, 4, part.shape), 0, 255)


def ellipses(height: int, width: int) -> list[np.ndarray]:
    """Ten masks, bool (height, width), of blocks of a 300th of the photo's width."""
    rng, block = np.random.default_rng(1), max(1, width // 300)
    y, x = np.arange(height)[:, None] // block * block, np.arange(width) // block * block
    shapes = [(0.5, 0.5, 0.45, 0.4)]
    shapes += [(*rng.uniform(0.2, 0.8, 2), rng.uniform(0.14, 0.28), rng.uniform(0.09, 0.16)) for _ in range(9)]
    return [((y / height - v) / b) ** 2 + ((x / width - u) / a) ** 2 < 1 for v, u, b, a in shapes]


def record(mask: np.ndarray, image_id: int) -> dict:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    rle = mask_to_rle(mask)
    return {"image_id": image_id, "category_id": 1, "score": 0.9, "bbox": [int(v) for v in box], "segmentation": rle}


def run(command: str, folder: Path, photo: str) -> tuple[int, float, float, float]:
    """Number of objects, seconds, processor seconds and highest memory in MB of a command on a photo."""
    with tempfile.TemporaryDirectory() as out:
        if command == "refine":
            results = Path(out) / "out.json"
            words = [folder / f"{photo}.json", "-i", folder, "-a", folder / "annotations.json", "-o", results]
        else:
            results = Path(out) / "out" / "results.json"
            words = [folder / f"{photo}.jpg", "-o", Path(out) / "out"]
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "crispmask", command, *map(str, words)], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        if status:
            raise SystemExit(f"crispmask {command} failed on {photo}")
        objects = len(json.loads(results.read_text()))
        return objects, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
