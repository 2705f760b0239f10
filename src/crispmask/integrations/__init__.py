"""Results of other programs to `Instances` and back, one module per program.

None of these programs is imported, except where one of their objects is made (`to_supervision`): results are read by
their attributes, and torch tensors on any device become arrays. All masks survive unchanged; probabilities do where
the other side has them.
"""

from __future__ import annotations

from crispmask.integrations._common import COCO_CATEGORY_IDS, Categories
from crispmask.integrations.detectron2 import from_detectron2
from crispmask.integrations.matterport import from_matterport
from crispmask.integrations.mmdetection import from_mmdetection
from crispmask.integrations.supervision import from_supervision, to_supervision
from crispmask.integrations.torchvision import from_torchvision
from crispmask.integrations.ultralytics import from_ultralytics

__all__ = [
    "COCO_CATEGORY_IDS",
    "Categories",
    "from_detectron2",
    "from_matterport",
    "from_mmdetection",
    "from_supervision",
    "from_torchvision",
    "from_ultralytics",
    "to_supervision",
]
