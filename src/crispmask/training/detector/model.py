"""The compact Mask R-CNN: EfficientNet-Lite backbone, torchvision's `MaskRCNN` with slimmer heads."""

from __future__ import annotations

from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

from crispmask.training.detector.backbone import IMAGE_MEAN, IMAGE_STD, EfficientNetLiteFPN


def build_model(
    num_classes: int,
    *,
    variant: str = "lite2",
    channels: int = 128,
    pretrained: bool = True,
    min_size: int = 512,
    max_size: int = 1024,
) -> MaskRCNN:
    """A Mask R-CNN of about 10 M parameters.

    Args:
        num_classes: classes including the background (class 0).
        variant: EfficientNet-Lite variant of the backbone.
        channels: width of the pyramid and of the heads.
        pretrained: ImageNet weights in the backbone.
        min_size, max_size: at inference, pixels of the shorter side and bound on the longer one.

    Returns:
        A torchvision `MaskRCNN` that takes images (3, H, W) float32 in [0, 1].
    """
    backbone = EfficientNetLiteFPN(variant, channels, pretrained=pretrained)
    anchors = AnchorGenerator(((24,), (48,), (96,), (192,), (384,)), ((0.5, 1.0, 2.0),) * 5)
    levels = ["0", "1", "2", "3"]
    return MaskRCNN(
        backbone,
        min_size=min_size,
        max_size=max_size,
        image_mean=IMAGE_MEAN,
        image_std=IMAGE_STD,
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(channels, anchors.num_anchors_per_location()[0]),
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=300,
        box_roi_pool=MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2),
        box_head=FastRCNNConvFCHead((channels, 7, 7), [channels, channels], [512]),
        box_predictor=FastRCNNPredictor(512, num_classes),
        box_batch_size_per_image=128,
        mask_roi_pool=MultiScaleRoIAlign(levels, output_size=14, sampling_ratio=2),
        mask_head=MaskRCNNHeads(channels, (channels,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(channels, channels, num_classes),
    )
