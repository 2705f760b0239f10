"""A door for what Label Studio sends of a project and its tasks."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from tests.fuzz.calls import SIZE, Case, photo
from tests.fuzz.files import altered_text

from crispmask import CRFParams
from crispmask.integrations.label_studio import brush
from crispmask.integrations.label_studio.interface import Interface
from crispmask.integrations.label_studio.results import refine_result
from crispmask.integrations.label_studio.tasks import address_of, result_of
from crispmask.structured import parse_json

CONFIG = """<View><Image name="i" value="$image"/>
<RectangleLabels name="b" toName="i"><Label value="A"/></RectangleLabels>
<BrushLabels name="s" toName="i"><Label value="A"/></BrushLabels><Polygon name="p" toName="i"/></View>"""
MASK = np.zeros(SIZE, bool)
MASK[4:20, 6:25] = True
BOX = {"x": 10, "y": 10, "width": 50, "height": 50.5, "rotation": 0, "rectanglelabels": ["A"]}
RESULT = [
    {"id": "1", "type": "rectanglelabels", "from_name": "b", "to_name": "i", "value": BOX, "score": 0.5},
    {"id": "2", "type": "rectanglelabels", "from_name": "b", "to_name": "i", "value": {**BOX, "rotation": 30}},
    {"id": "3", "type": "brushlabels", "from_name": "s", "to_name": "i",
     "value": {"format": "rle", "rle": brush.encode(MASK), "brushlabels": ["A"]}},
    {"id": "4", "type": "polygon", "from_name": "p", "to_name": "i",
     "value": {"points": [[10, 10], [80, 15], [50, 90]], "closed": True}, "parentID": "3"},
    {"type": "relation", "from_id": "1", "to_id": "2"},
]  # fmt: skip
TASKS = [{"id": 1, "data": {"image": "/a.jpg"}, "annotations": [{"result": RESULT, "updated_at": "2026"}]}]


def tasks(dice: random.Random) -> Case:
    def run(file: Path, content: bytes) -> Any:
        interface, found = Interface.from_xml(CONFIG), parse_json(content, "the request")
        answers = []
        for task in found if isinstance(found, list) else []:
            if isinstance(task, dict):
                address = [address_of(task, interface, name) for name in interface.images]
                refined = refine_result(result_of(task, ""), interface, lambda name: photo(), CRFParams())
                answers.append([address, refined.items, refined.score, refined.notes])
        return json.dumps(answers, allow_nan=True)

    return altered_text(TASKS, dice), run


def interface(dice: random.Random) -> Case:
    text = list(CONFIG)
    for _ in range(dice.choice((1, 1, 3, 10))):
        at = dice.randrange(len(text))
        text[at : at + dice.randrange(6)] = dice.choice(
            ("", "$", "<", "\0", '"', "</View>", "<!DOCTYPE a>", "\ud800", "é")
        )

    def run(file: Path, content: bytes) -> Any:
        found = Interface.from_xml(parse_json(content, "the request"))
        return sorted(found.images.items()), sorted(found.controls)

    return json.dumps("".join(text)).encode(), run


def warm() -> None:
    """Compile what refining takes."""
    _, run = tasks(random.Random(0))
    run(Path(), json.dumps(TASKS).encode())
