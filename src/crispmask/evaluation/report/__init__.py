"""One self-contained HTML page about two results: what changed, by how much, for which objects, with crops.

The page loads nothing: style, charts (SVG) and crops (data URIs) are inside.
"""

from __future__ import annotations

from crispmask.evaluation.report.page import Report, write_report

__all__ = ["Report", "write_report"]
