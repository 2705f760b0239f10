"""What one image costs on a cluster: processor time of each stage, and bytes between and after the stages.

    python benchmarks/cluster_cost.py IMAGES [--images 200] [--score 0.7]

Calls the functions that the stages of `crispmask segment --engine ray` run, in one process and one thread, and counts
processor time, so that other work on the machine hardly matters. What Ray itself takes is not in it.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crispmask.detectors import load_detector
from crispmask.image import find_images
from crispmask.pipeline import Settings, prepare
from crispmask.pipeline.ray.stages import KEY, Detect, Refine, read_images

BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--score", type=float, default=0.7)
    options = parser.parse_args()
    files = find_images([options.folder])[: options.images]
    settings = Settings(score=options.score)
    loaded = load_detector()
    prepare(settings)
    detect, refine = Detect("embedded", loaded.checksum, settings), Refine(settings, loaded.categories, loaded.checksum)
    unrefined = Refine(Settings(score=options.score, refine=False), loaded.categories, loaded.checksum)
    next(iter(detect(joined(read_images(rows(files[:1]), base=None)))))  # not counted: what only a first call takes

    spent = dict.fromkeys(("read and decode", "detect", "refine and encode", "of that encode", "write Parquet"), 0.0)
    results, pixels, detections = [], 0, 0
    for k in range(0, len(files), BATCH):
        started = time.process_time()
        read = joined(read_images(rows(files[k : k + BATCH]), base=None))
        decoded = time.process_time()
        found = joined(detect(read))
        detected = time.process_time()
        results.append(refine(found))
        refined = time.process_time()
        unrefined(found)
        encoded = time.process_time()
        spent["read and decode"] += decoded - started
        spent["detect"] += detected - decoded
        spent["refine and encode"] += refined - detected
        spent["of that encode"] += encoded - refined
        pixels, detections = pixels + read["pixels"].nbytes, detections + found["before"].nbytes
    table = pa.concat_tables(results)
    started = time.process_time()
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    spent["write Parquet"] = time.process_time() - started

    n, objects = len(files), sum(table["objects"].to_pylist())
    print(f"{n} images, {objects} objects ({objects / n:.2f} an image) at score {options.score:g}")
    for name, seconds in spent.items():
        print(f"{name:<20} {1000 * seconds / n:8.1f} ms of processor time an image")
    total = sum(seconds for name, seconds in spent.items() if name != "of that encode")
    print(f"{'together':<20} {1000 * total / n:8.1f} ms of processor time an image")
    size = sum(Path(file).stat().st_size for file in files)
    rle = sum(len(json.dumps(row["instances"])) for row in table.to_pylist())
    for name, amount in (
        ("read", size),
        ("pixels, stage to stage", pixels),
        ("detections, stage to stage", detections),
        ("Parquet", len(buffer.getvalue())),
        ("the same as JSON", rle),
    ):
        print(f"{name:<28} {amount / n / 1000:10.1f} kB an image")


def rows(files: list[Path]) -> pa.Table:
    return pa.Table.from_pylist([{KEY: str(file.absolute())} for file in files])


def joined(tables) -> pa.Table:
    return pa.concat_tables(list(tables))


if __name__ == "__main__":
    main()
