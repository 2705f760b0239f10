"""From images, folders and results files to refined masks: read, detect, refine, write, resume."""

from __future__ import annotations

from crispmask.pipeline.cutouts import CutoutStyle
from crispmask.pipeline.folder import segment_folder
from crispmask.pipeline.output import write_picture
from crispmask.pipeline.progress import Failure, Progress, RefineReport, SegmentReport
from crispmask.pipeline.results import refine_records, refine_results
from crispmask.pipeline.segmenter import ImageResult, Segmenter, refine_found, segment, segment_image
from crispmask.pipeline.settings import Settings, prepare

__all__ = [
    "CutoutStyle",
    "Failure",
    "ImageResult",
    "Progress",
    "RefineReport",
    "SegmentReport",
    "Segmenter",
    "Settings",
    "prepare",
    "refine_found",
    "refine_records",
    "refine_results",
    "segment",
    "segment_folder",
    "segment_image",
    "write_picture",
]
