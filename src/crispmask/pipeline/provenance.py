"""Where results come from: a file beside them, the same bytes for the same work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crispmask._version import __version__
from crispmask.errors import DataError
from crispmask.files import checksum, write_text
from crispmask.structured import MAX_DEPTH, parse_json, read_bytes, sound

MAX_BYTES = 1 << 26
"""Of a provenance file; the largest ones name the checksum of each file of a long chain of runs."""

IN_FOLDER = "provenance.json"


def beside(results: Path) -> Path:
    """The provenance file of a results file: ``x.provenance.json`` for ``x.json`` and ``x.json.gz``."""
    stem = results.name.removesuffix(".gz").removesuffix(".json")
    return results.with_name(f"{stem}.provenance.json")


def describe(path: Path) -> dict[str, Any]:
    """An input file: its name, its checksum, and its own provenance where that lies beside it."""
    found = {"file": path.name, "sha256": checksum(path)}
    for candidate in (beside(path), path.with_name(IN_FOLDER)):
        try:
            own = parse_json(read_bytes(candidate, MAX_BYTES, DataError), candidate)
            sound(own, MAX_DEPTH - 16)  # so that what it becomes a part of can be read, too
            if own["outputs"][path.name] == found["sha256"]:
                return {**found, "provenance": own}
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return found


def write_provenance(path: Path, verb: str, facts: dict[str, Any], outputs: list[Path]) -> None:
    """Write the provenance of finished files.

    Args:
        path: the file to write.
        verb: what made them.
        facts: inputs and settings, ready for JSON, and without times, so that the same work gives the same bytes.
        outputs: the files; their checksums tie the provenance to them.
    """
    content = {
        "made_by": f"crispmask {verb}",
        "crispmask": __version__,
        **facts,
        "outputs": {output.name: checksum(output) for output in outputs},
    }
    write_text(path, json.dumps(content, indent=1) + "\n")
