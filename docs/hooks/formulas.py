"""Formulas become MathML when the site is built: every browser renders it, without scripts from elsewhere."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(text: str, **_: Any) -> str:
    """Replace the formulas that pymdownx.arithmatex marked."""

    def rendered(found: re.Match[str]) -> str:
        if found[2] == "(":
            return convert(html.unescape(found[3]), display="inline")
        # Wider than a phone, a formula scrolls in a box of its own.
        return f'<div style="overflow-x: auto">{convert(html.unescape(found[3]), display="block")}</div>'

    return _FORMULA.sub(rendered, text)
