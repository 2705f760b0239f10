"""Seeded ways to damage bytes and values."""

from __future__ import annotations

import json
import math
import random
from typing import Any

NUMBERS: list[Any] = [0, -1, 1, 2**31, 2**63, 2**70, 10**400, 1e308, -1e308, 1e-320, 0.5, math.inf, -math.inf, math.nan]
VALUES: list[Any] = [*NUMBERS, None, True, "", "2", "\ud800", "a\0b", "../x", [], {}, [[]], [[1], [1, 2]], {"a": 1}]


def damaged(content: bytes, dice: random.Random) -> bytes:
    """The bytes with some flipped, cut out, doubled, moved or set to the ends of their range."""
    made = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 5, 20))):
        if not made:
            break
        at, length = dice.randrange(len(made)), dice.choice((1, 2, 4, 16, 200))
        match dice.randrange(6):
            case 0:
                made[at] ^= 1 << dice.randrange(8)
            case 1:
                made[at : at + length] = dice.randbytes(min(length, len(made) - at))
            case 2:
                del made[at : at + length]
            case 3:
                made[at:at] = made[at : at + length] * dice.choice((1, 3, 50))
            case 4:
                made[at : at + length] = dice.choice((b"\0", b"\xff", b"\x7f")) * min(length, len(made) - at)
            case 5:
                del made[at:]
    return bytes(made)


def altered(value: Any, dice: random.Random) -> Any:
    """A copy of a value of lists, dicts and scalars in which some part has another value, is gone or comes twice."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        made = dict(value)
        key = dice.choice(list(made))
        match dice.randrange(8):
            case 0:
                del made[key]
            case 1:
                made[dice.choice(["x", "\ud800", "", *made])] = made[key]
            case _:
                made[key] = altered(made[key], dice)
        return made
    if isinstance(value, list) and value and dice.random() < 0.9:
        at = dice.randrange(len(value))
        match dice.randrange(8):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[:at] + [value[at]] * 3 + value[at:]
            case _:
                return [*value[:at], altered(value[at], dice), *value[at + 1 :]]
    return nested(dice) if dice.random() < 0.02 else dice.choice(VALUES)


def nested(dice: random.Random) -> Any:
    """Many levels of lists."""
    value: Any = []
    for _ in range(dice.choice((10, 63, 64, 200))):
        value = [value]
    return value


def text(value: Any) -> bytes:
    """JSON."""
    return json.dumps(value).encode()
