"""The path of a photo, and of a folder of them: read, detect, refine, write; with progress and resume."""

from __future__ import annotations

from crispmask.pipeline.folder import Failure, PhotoDone, Report, segment_folder
from crispmask.pipeline.job import RefineReport
from crispmask.pipeline.photo import Settings, detect, prepare, process, refine, write_picture
from crispmask.pipeline.results import RecordsDone, refine_records, refine_results

__all__ = [
    "Failure",
    "PhotoDone",
    "RecordsDone",
    "RefineReport",
    "Report",
    "Settings",
    "detect",
    "prepare",
    "process",
    "refine",
    "refine_records",
    "refine_results",
    "segment_folder",
    "write_picture",
]
