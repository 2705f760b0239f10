"""Results of other frameworks as `Instances`, and back; one module per framework.

None of the frameworks is imported, except to make one of its objects (`to_supervision`): results are read by their
attributes, and torch tensors on any device become arrays. Masks are not changed; probabilities are kept where the
framework has them.
"""

from __future__ import annotations

from crispmask.integrations._common import COCO_CATEGORY_IDS, Categories
from crispmask.integrations.detectron2 import from_detectron2
from crispmask.integrations.fiftyone import refine_fiftyone
from crispmask.integrations.matterport import from_matterport
from crispmask.integrations.mmdetection import from_mmdetection
from crispmask.integrations.supervision import from_supervision, to_supervision
from crispmask.integrations.torchvision import from_torchvision
from crispmask.integrations.transformers import from_transformers
from crispmask.integrations.ultralytics import from_ultralytics, refine_ultralytics, to_ultralytics

__all__ = [
    "COCO_CATEGORY_IDS",
    "Categories",
    "from_detectron2",
    "from_matterport",
    "from_mmdetection",
    "from_supervision",
    "from_torchvision",
    "from_transformers",
    "from_ultralytics",
    "refine_fiftyone",
    "refine_ultralytics",
    "to_supervision",
    "to_ultralytics",
]
