"""``python -m tests.fuzz --minutes 60 --seed 1``: random damage for every door, each of which gets as much time.

A fault is another exception than those of crispmask, no answer within 20 seconds, a gigabyte of memory, NaN from finite
input, or another answer the second time. Its input goes into ``tests/fuzz/corpus/DOOR-SHA``, which the tests run from
then on. Inputs that came before are not counted.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

from tests.fuzz.doors import DOORS
from tests.fuzz.run import case, check, highest_memory, warm

EVERY = 300.0
"""Seconds between two lines that say how far it is."""

CORPUS = Path(__file__).with_name("corpus")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", choices=DOORS, action="append", help="only these doors")
    options = parser.parse_args()
    doors, faults = options.door or list(DOORS), 0
    tried, counted = dict.fromkeys(doors, 0), dict.fromkeys(doors, 0)
    spent, slowest = dict.fromkeys(doors, 0.0), dict.fromkeys(doors, 0.0)
    seen: set[bytes] = set()
    places: set[str] = set()
    for door in doors:
        warm(door)
    began = said = time.monotonic()

    def say() -> None:
        seconds, total = time.monotonic() - began, sum(counted.values())
        facts = f"{total / seconds:.0f} a second, {highest_memory() / 1e6:.0f} MB"
        print(f"seed {options.seed}: {total} inputs in {seconds:.0f} s, {facts}, {faults} faults: ", end="")
        each = (f"{door} {count} (slowest {slowest[door]:.1f} s)" for door, count in counted.items())
        print(", ".join(each), flush=True)

    while time.monotonic() - began < 60 * options.minutes:
        door = min(doors, key=lambda name: spent[name])
        start = time.monotonic()
        content, call = case(door, f"{options.seed} {door} {tried[door]}")
        tried[door] += 1
        digest = hashlib.sha256(door.encode() + content).digest()
        if digest not in seen:
            seen.add(digest)
            counted[door] += 1
            try:
                check(door, content, call)
            except AssertionError as fault:
                faults += 1
                where = "\n".join(line for line in str(fault).splitlines() if "crispmask" in line)[-300:] or str(fault)
                if where not in places:  # one file for each place
                    places.add(where)
                    name = f"{door}-{digest.hex()[:12]}"
                    (CORPUS / name).write_bytes(content)
                    print(f"{name}: {fault}", file=sys.stderr, flush=True)
        now = time.monotonic()
        spent[door] += now - start
        slowest[door] = max(slowest[door], now - start)
        if now - said > EVERY:
            said = now
            say()
    say()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
