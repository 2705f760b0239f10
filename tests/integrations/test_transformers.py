"""transformers itself: small untrained models that look at a photo, from the pixels to refined masks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import crispmask
from crispmask.errors import DataError, ShapeError
from crispmask.instances import Instances
from crispmask.integrations import from_transformers
from crispmask.samples import sample_images

pytestmark = pytest.mark.needs("transformers")
SIZE = (120, 160)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.array(Image.open(sample_images()[0]).convert("RGB").resize(SIZE[::-1]))


@pytest.fixture(scope="module")
def swin():
    from transformers import SwinConfig

    stages = [f"stage{k}" for k in (1, 2, 3, 4)]
    heads = {"num_heads": [1, 1, 2, 2], "depths": [1, 1, 1, 1]}
    return SwinConfig(image_size=64, embed_dim=16, window_size=2, out_features=stages, **heads)


def mask2former(swin, folder):
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor

    small = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 32}
    small |= {"dim_feedforward": 32, "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2}
    config = Mask2FormerConfig(backbone_config=swin, num_queries=6, num_labels=3, **small)
    return Mask2FormerForUniversalSegmentation(config), Mask2FormerImageProcessor(size={"height": 64, "width": 64}), {}


def maskformer(swin, folder):
    from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation, MaskFormerImageProcessor

    small = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "num_queries": 6}
    small |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    decoder = DetrConfig(encoder_ffn_dim=32, decoder_ffn_dim=32, **small)
    sizes = {"fpn_feature_size": 32, "mask_feature_size": 32, "num_labels": 3}
    config = MaskFormerConfig(backbone_config=swin, decoder_config=decoder, **sizes)
    return MaskFormerForInstanceSegmentation(config), MaskFormerImageProcessor(size={"height": 64, "width": 64}), {}


def oneformer(swin, folder):
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation, OneFormerImageProcessor

    classes = {str(k): {"isthing": 1, "name": f"thing {k}"} for k in range(3)}
    (folder / "classes.json").write_text(json.dumps(classes))
    small = {"conv_dim": 32, "mask_dim": 32, "hidden_dim": 32, "dim_feedforward": 32, "encoder_feedforward_dim": 32}
    small |= {"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "query_dec_layers": 1}
    small |= {"text_encoder_width": 32, "text_encoder_num_layers": 1, "task_seq_len": 7, "max_seq_len": 7}
    config = OneFormerConfig(backbone_config=swin, num_queries=6, num_labels=3, is_training=False, **small)
    processor = OneFormerImageProcessor(
        class_info_file="classes.json", repo_path=str(folder), size={"height": 64, "width": 64}, num_text=1
    )
    import torch

    return OneFormerForUniversalSegmentation(config), processor, {"task_inputs": torch.ones(1, 7, dtype=torch.long)}


def detr(swin, folder):
    from transformers import DetrConfig, DetrForSegmentation, DetrImageProcessor, ResNetConfig

    stages = [f"stage{k}" for k in (1, 2, 3, 4)]
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=stages)
    small = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "num_queries": 6, "num_labels": 3}
    small |= {"encoder_attention_heads": 8, "decoder_attention_heads": 8, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    config = DetrConfig(use_timm_backbone=False, backbone=None, backbone_config=backbone, **small)
    return DetrForSegmentation(config), DetrImageProcessor(size={"height": 64, "width": 64}), {}


def sure(outputs) -> None:
    """Make what an untrained model says decided: there are objects, and each mask has an inside and an outside."""
    classes, masks = "class_queries_logits", "masks_queries_logits"
    if classes not in outputs:  # DETR
        classes, masks = "logits", "pred_masks"
    outputs[classes] *= 1000
    outputs[classes][..., -1] = -1e6  # "no object"
    outputs[masks] -= outputs[masks].mean((-2, -1), keepdim=True)
    outputs[masks] *= 10 / outputs[masks].abs().amax((-2, -1), keepdim=True)


@pytest.mark.parametrize("make", [mask2former, maskformer, oneformer, detr], ids=lambda make: make.__name__)
@pytest.mark.parametrize("kind", ["instance", "panoptic"])
def test_segmentation_models(make, kind, swin, photo, tmp_path):
    import torch

    torch.manual_seed(1)
    model, processor, inputs = make(swin, tmp_path)
    batch = processor(images=photo, return_tensors="pt", **({"task_inputs": ["instance"]} if make is oneformer else {}))
    with torch.no_grad():
        outputs = model.eval()(pixel_values=batch["pixel_values"], **inputs)
        sure(outputs)
    post_process = getattr(processor, f"post_process_{kind}_segmentation")
    (result,) = post_process(outputs, threshold=0.0, target_sizes=[SIZE], overlap_mask_area_threshold=0.0)
    found = from_transformers(result, SIZE)
    segments = result["segments_info"]
    assert len(found) == len(segments) > 0
    maps = np.asarray(result["segmentation"])
    for k, segment in enumerate(segments):
        assert (found.mask(k) == (maps == segment["id"])).all()
        assert found.scores[k] == pytest.approx(segment["score"])
        assert found.category_ids[k] == segment["label_id"]
    refined = crispmask.refine(photo, found)
    assert refined.masks().shape == (len(segments), *SIZE)
    assert from_transformers(result, categories=[5, 6, 7]).category_ids.min() >= 5

    if kind == "panoptic":  # of a fused class all segments have one id
        (fused,) = post_process(
            outputs, 0.0, target_sizes=[SIZE], overlap_mask_area_threshold=0.0, label_ids_to_fuse={0, 1, 2}
        )
        ids = [segment["id"] for segment in fused["segments_info"]]
        assert len(from_transformers(fused)) == len(set(ids)) <= len(ids)

    (nothing,) = post_process(outputs, threshold=1.1, target_sizes=[SIZE])
    assert len(from_transformers(nothing, SIZE)) == 0


def test_binary_maps_may_overlap(swin, photo, tmp_path):
    import torch

    torch.manual_seed(1)
    model, processor, _ = mask2former(swin, tmp_path)
    with torch.no_grad():
        outputs = model.eval()(pixel_values=processor(images=photo, return_tensors="pt")["pixel_values"])
        sure(outputs)
    options = {"threshold": 0.0, "target_sizes": [SIZE]}
    (result,) = processor.post_process_instance_segmentation(outputs, return_binary_maps=True, **options)
    assert (from_transformers(result).masks() == (np.asarray(result["segmentation"]) > 0)).all()
    (runs,) = processor.post_process_instance_segmentation(outputs, return_coco_annotation=True, **options)
    with pytest.raises(DataError, match="return_coco_annotation"):
        from_transformers(runs)


def sam():
    from transformers import SamConfig, SamImageProcessor, SamModel

    vision = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 64, "mlp_dim": 16, "global_attn_indexes": [0], "num_pos_feats": 8}
    prompt = {"hidden_size": 16, "image_size": 64, "image_embedding_size": 4, "mask_input_channels": 4}
    decoder = {
        "hidden_size": 16,
        "mlp_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    }
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    return SamModel(config), SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})


def sam2():
    from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model

    backbone = {"hidden_size": 8, "num_attention_heads": 1, "image_size": [64, 64], "blocks_per_stage": [1, 1, 2, 1]}
    backbone |= {"embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2]}
    backbone |= {"global_attention_blocks": [3], "window_positional_embedding_background_size": [2, 2]}
    vision = {"backbone_config": {"model_type": "sam2_hiera_det_model", **backbone}}
    vision |= {"backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 32}
    vision |= {"backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
    decoder = {
        "hidden_size": 32,
        "mlp_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    }
    prompt = {"hidden_size": 32, "image_size": 64}
    config = Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    return Sam2Model(config), Sam2ImageProcessor(
        size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16}
    )


@pytest.mark.parametrize("make", [sam, sam2], ids=lambda make: make.__name__)
def test_sam(make, photo):
    import torch

    torch.manual_seed(0)
    model, processor = make()
    batch = processor(images=photo, return_tensors="pt")
    points = torch.tensor([[[[20.0, 20.0]], [[40.0, 30.0]]]])  # one image, two prompts of a point each
    with torch.no_grad():
        outputs = model.eval()(pixel_values=batch["pixel_values"], input_points=points)
    sizes = [] if make is sam2 else [batch["reshaped_input_sizes"]]
    (masks,) = processor.post_process_masks(outputs.pred_masks, batch["original_sizes"], *sizes)
    found = from_transformers(masks, SIZE, iou_scores=outputs.iou_scores)
    best = np.asarray(outputs.iou_scores)[0].argmax(1)
    assert (found.masks() == np.asarray(masks)[[0, 1], best]).all()
    assert found.scores.tolist() == [1, 1]
    assert crispmask.refine(photo, found).masks().shape == (2, *SIZE)
    assert (from_transformers(masks[:, :1]).masks() == np.asarray(masks)[:, 0]).all()

    with pytest.raises(DataError, match="iou_scores"):
        from_transformers(masks)
    with pytest.raises(ShapeError, match="iou_scores"):
        from_transformers(masks, iou_scores=np.zeros((5, 3)))
    with pytest.raises(ShapeError, match="P, M, H, W"):
        from_transformers(masks[0, 0])
    with pytest.raises(ShapeError, match="100x100"):
        from_transformers(masks, (100, 100), iou_scores=outputs.iou_scores)


def test_nothing_found():
    nothing = {"segmentation": None, "segments_info": []}
    assert from_transformers(nothing, SIZE).image_size == Instances.empty(SIZE).image_size
    with pytest.raises(DataError, match="image_size"):
        from_transformers(nothing)
    with pytest.raises(DataError, match="segments_info"):
        from_transformers({"segmentation": None})
