"""COCO data sets, results and run-length encodings (RLE), in and out."""

from __future__ import annotations

from crispmask.coco.dataset import CocoDataset
from crispmask.coco.results import instances_to_results, read_results, results_to_instances, write_results
from crispmask.coco.rle import mask_to_rle, segmentation_to_mask, segmentation_to_rle

__all__ = [
    "CocoDataset",
    "instances_to_results",
    "mask_to_rle",
    "read_results",
    "results_to_instances",
    "segmentation_to_mask",
    "segmentation_to_rle",
    "write_results",
]
