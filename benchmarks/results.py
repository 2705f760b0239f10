"""What `crispmask refine` costs: objects per second, processor time per object, peak memory by the size of the file.

Each run is a process of its own on a results file that is made larger by repeating images (as links with new ids) and
their results, so that a larger file has more images, not more objects per image. A smaller one takes its records evenly
from all images, since the largest objects set the peak. The first run fills Numba's cache.

    python benchmarks/results.py --results detections.json --images val2017 --counts 500,20000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from crispmask.coco import CocoDataset, read_results, write_results
from crispmask.coco.images import ImageFolder


def repeat(records: list[dict], images: ImageFolder, count: int, folder: Path) -> Path:
    """A results file of `count` records, and the images that it is about in the same folder."""
    folder.mkdir()
    repeated: list[dict] = []
    few = [records[k * len(records) // count] for k in range(count)] if count < len(records) else records
    for turn in range(-(-count // len(few))):
        for record in few[: count - len(repeated)]:
            key = record["image_id"] + turn * 10**9
            source = images.path(record["image_id"])
            link = folder / f"{key:012d}{source.suffix}"
            if not link.exists():
                link.symlink_to(source.absolute())
            repeated.append({**record, "image_id": key})
    write_results(folder / "results.json", repeated)
    return folder / "results.json"


def measure(results: Path, options: list[str]) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak MB of one run."""
    command = ["refine", results, "--images", results.parent, "-o", results.with_name("out.json"), *options]
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "crispmask", *map(str, command)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"crispmask refine ended with status {status}")
    megabyte = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / megabyte


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="COCO results file")
    parser.add_argument("--images", type=Path, required=True, help="folder of its images")
    parser.add_argument("--annotations", type=Path, help="gives the images' names; by default COCO's own naming")
    parser.add_argument("--counts", default="500,20000", help="records per run")
    parser.add_argument("--threads", default="2")
    parser.add_argument("options", nargs="*", help="options of crispmask refine, after --")
    arguments = parser.parse_args()
    records = read_results(arguments.results)
    dataset = CocoDataset.from_file(arguments.annotations) if arguments.annotations else None
    images = ImageFolder(arguments.images, dataset)
    options = ["--threads", arguments.threads, *arguments.options]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        measure(repeat(records, images, 20, Path(scratch) / "warm"), options)
        for count in map(int, arguments.counts.split(",")):
            results = repeat(records, images, count, Path(scratch) / str(count))
            rows.append((count, *measure(results, options)))
            wrote = json.loads(results.with_name("out.provenance.json").read_text())["records"]["refined"]
            assert wrote == count, (wrote, count)
    print("| objects | s | processor s | peak, MB |\n| --- | --- | --- | --- |")
    for count, seconds, used, peak in rows:
        print(f"| {count} | {seconds:.1f} | {used:.1f} | {peak:.0f} |")
    (n0, s0, c0, m0), (n1, s1, c1, m1) = rows[0], rows[-1]
    if n1 > n0:  # what every run costs, such as its start, drops out of the difference
        print(f"\n{(n1 - n0) / (s1 - s0):.0f} objects/s; {1000 * (c1 - c0) / (n1 - n0):.1f} ms of processor time each;")
        print(f"peak memory {m1 / m0 - 1:+.1%} from {n0} to {n1} objects")


if __name__ == "__main__":
    main()
