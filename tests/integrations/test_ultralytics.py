"""Ultralytics itself: an untrained model that looks at a photo, and what its results can do after refinement."""

from __future__ import annotations

import numpy as np
import pytest

from crispmask.errors import ShapeError
from crispmask.image import read_image
from crispmask.instances import Instances
from crispmask.integrations import from_ultralytics, refine_ultralytics, to_ultralytics
from crispmask.samples import sample_images

pytestmark = pytest.mark.needs("ultralytics")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        patch.setenv("YOLO_OFFLINE", "true")
        patch.setenv("YOLO_AUTOINSTALL", "false")
        import torch
        from ultralytics import YOLO

        torch.manual_seed(0)
        model = YOLO("yolov8n-seg.yaml", verbose=False)
        photos = [str(path) for path in sample_images()[:2]]
        return model.predict(photos, conf=1e-9, max_det=3, imgsz=160, device="cpu", verbose=False, save=False)


def test_results_in_results_out(results, tmp_path):
    import torch

    refined = refine_ultralytics(results)
    for before, after, path in zip(results, refined, sample_images(), strict=False):
        assert type(after) is type(before)
        assert len(after) == len(before) == 3
        assert (np.ascontiguousarray(before.orig_img[:, :, ::-1]) == read_image(path)).all()
        assert torch.equal(after.boxes.data, before.boxes.data)
        assert after.masks.data.shape == (3, *before.orig_shape)
        assert after.masks.data.dtype == before.masks.data.dtype
        old, new = from_ultralytics(before).masks(), from_ultralytics(after).masks()
        assert (old != new).any()
        assert (after.masks.data.numpy().astype(bool) == new).all()

        assert after.plot().shape == before.orig_img.shape
        assert (after.plot() != before.plot()).any()
        after.save_txt(tmp_path / f"{path.stem}.txt")
        assert len((tmp_path / f"{path.stem}.txt").read_text().splitlines()) == 3
        assert "segments" in after.to_json()
    assert refine_ultralytics(results[0]).masks.data.shape == refined[0].masks.data.shape


def test_the_masks_are_those_of_refine(results):
    import crispmask

    before = results[0]
    image = np.ascontiguousarray(before.orig_img[:, :, ::-1])
    expected = crispmask.refine(image, from_ultralytics(before)).masks()
    assert (refine_ultralytics(before).masks.data.numpy().astype(bool) == expected).all()


def test_arrays_and_nothing(results):
    arrays = results[0].numpy()
    assert isinstance(refine_ultralytics(arrays).masks.data, np.ndarray)
    nothing = results[0][:0]
    assert len(refine_ultralytics(nothing)) == 0


def test_what_does_not_fit(results):
    with pytest.raises(ShapeError, match="3 objects"):
        to_ultralytics(Instances.empty(results[0].orig_shape), results[0])


def test_by_way_of_supervision(results):
    import supervision as sv

    import crispmask

    before = sv.Detections.from_ultralytics(results[0])
    image = np.ascontiguousarray(results[0].orig_img[:, :, ::-1])
    after = crispmask.refine(image, before)
    assert type(after) is sv.Detections
    assert (after.mask == refine_ultralytics(results[0]).masks.data.numpy().astype(bool)).mean() > 0.99
    assert sv.MaskAnnotator().annotate(image.copy(), after).shape == image.shape
