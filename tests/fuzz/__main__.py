"""``python -m tests.fuzz --minutes 60 --seed 1``: random damage for every door.

A fault is another exception than those of crispmask, no answer within 20 seconds, NaN from finite input, or another
answer the second time. Its input goes into ``tests/fuzz/corpus/DOOR-SHA``, which the tests run from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

from tests.fuzz.doors import DOORS
from tests.fuzz.run import case, check

CORPUS = Path(__file__).with_name("corpus")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", choices=DOORS, action="append", help="only these doors")
    options = parser.parse_args()
    doors, began, faults = options.door or list(DOORS), time.monotonic(), 0
    inputs = dict.fromkeys(doors, 0)
    places: set[str] = set()
    while time.monotonic() - began < 60 * options.minutes:
        for door in doors:
            content, call = case(door, f"{options.seed} {door} {inputs[door]}")
            inputs[door] += 1
            try:
                check(door, content, call)
            except AssertionError as fault:
                faults += 1
                where = "\n".join(line for line in str(fault).splitlines() if "crispmask" in line)[-300:] or str(fault)
                if where not in places:  # one file for each place
                    places.add(where)
                    name = f"{door}-{hashlib.sha256(content).hexdigest()[:12]}"
                    (CORPUS / name).write_bytes(content)
                    print(f"{name}: {fault}", file=sys.stderr, flush=True)
    seconds, total = time.monotonic() - began, sum(inputs.values())
    print(f"seed {options.seed}: {total} inputs in {seconds:.0f} s, {total / seconds:.0f} a second, {faults} faults")
    print(", ".join(f"{door} {count}" for door, count in inputs.items()))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
