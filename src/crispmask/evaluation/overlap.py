"""IoU and boundary IoU of masks: the one definition that every part of crispmask uses.

Boundary IoU is that of Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021:
the IoU of the pixels of both masks that lie within a distance d of the mask's outside. As in the authors' code
(``boundary_iou/utils/boundary_utils.py``), d is ``round(0.02 * diagonal)`` pixels and at least 1, where `round` is
Python's: a half goes to the even neighbour, so that d is 8 for an image of 300 x 225 pixels (7.5) and 12 for one of
500 x 375 (12.5). What lies beyond the image counts as outside. faster-coco-eval takes 7 for 300 x 225.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.coco.rle import segmentation_to_mask
from crispmask.coco.runs import MaskRuns

BOUNDARY_DILATION = 0.02
"""Width of a boundary as a share of the image's diagonal."""


def boundary_width(height: NDArray[np.int64], width: NDArray[np.int64]) -> NDArray[np.int64]:
    """The width d of boundaries in images of these sizes, pixels: int64 of the same shape."""
    diagonal = np.sqrt(np.asarray(height * height + width * width, np.float64))
    return np.maximum(1, np.rint(BOUNDARY_DILATION * diagonal)).astype(np.int64)


def boundaries(masks: MaskRuns) -> MaskRuns:
    """The boundaries of all masks, as masks of the same images."""
    from crispmask.evaluation import _kernels

    width = boundary_width(masks.heights, masks.widths)
    starts, ends, count = _kernels.boundaries(masks.starts, masks.ends, masks.first, masks.count, masks.heights, width)
    owner = np.repeat(np.arange(len(masks)), count)
    return MaskRuns.from_runs(starts, ends, owner, masks.heights, masks.widths)


def pair_ious(
    found: MaskRuns, truth: MaskRuns, pairs: NDArray[np.int64], crowd: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """IoU of pairs of masks; for a crowd, the share of the found mask that lies inside it, as in COCO.

    Args:
        found, truth: the masks of both sides.
        pairs: int64 (P, 2), numbers of masks of found and truth, which are of one image.
        crowd: uint8 (len(truth),), 1 where the mask is that of a crowd.

    Returns:
        float64 (P,) in [0, 1]; 0 where both masks are empty.
    """
    from crispmask.evaluation import _kernels

    ious = np.empty(len(pairs), np.float64)
    sides = ((side.starts, side.ends, side.first, side.count, side.area) for side in (found, truth))
    _kernels.mask_ious(*sides, pairs, crowd, ious)
    return ious


def overlaps(segmentation: Any, truth: Any, height: int, width: int) -> tuple[float, float]:
    """IoU and boundary IoU of two COCO segmentations of an image, each in [0, 1].

    Args:
        segmentation, truth: in any of COCO's encodings.
        height, width: of the image, pixels.

    Raises:
        DataError: a segmentation that breaks the format.
    """
    return mask_overlaps(*(segmentation_to_mask(s, height, width) for s in (segmentation, truth)))


def mask_overlaps(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """IoU and boundary IoU of two masks bool (H, W) of a whole image, each in [0, 1]."""
    pairs, crowd = np.zeros((1, 2), np.int64), np.zeros(1, np.uint8)
    sides = MaskRuns.from_masks([mask]), MaskRuns.from_masks([truth])
    area = pair_ious(*sides, pairs, crowd)
    boundary = pair_ious(boundaries(sides[0]), boundaries(sides[1]), pairs, crowd)
    return float(area[0]), float(boundary[0])
