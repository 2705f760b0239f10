"""FiftyOne itself with its database: datasets of real photos, in an environment of their own (.ci/step fiftyone)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crispmask import CRFParams, refine
from crispmask.errors import DataError, ImageError, ParamsError
from crispmask.image import read_image
from crispmask.integrations import refine_fiftyone
from crispmask.refinement import default_params
from crispmask.samples import sample_images

pytestmark = [pytest.mark.slow, pytest.mark.needs("fiftyone")]

EVERY = default_params().with_overrides({"gated": "none"})
BOX = [0.04, 0.005, 0.74, 0.99]


@pytest.fixture(scope="module")
def fo(tmp_path_factory) -> Iterator[Any]:
    """The package, with a database of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIFTYONE_DATABASE_DIR", str(tmp_path_factory.mktemp("fiftyone")))
        patch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
        import fiftyone

        yield fiftyone


@pytest.fixture
def dataset(fo) -> Iterator[Any]:
    made = fo.Dataset()
    yield made
    made.delete()


@pytest.fixture(scope="module")
def photo() -> str:
    return str(next(path for path in sample_images() if path.stem == "astronaut"))


def coarse() -> np.ndarray:
    y, x = np.mgrid[:512, :512]
    return ((x - 205) / 185) ** 2 + ((y - 320) / 280) ** 2 < 1


def rendered(detection: Any) -> np.ndarray:
    """The mask of a detection on a photo of 512x512 pixels, as FiftyOne draws it."""
    return detection.to_segmentation(frame_size=(512, 512)).mask > 0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_masks_and_boxes_are_refined_into_another_field(fo, dataset, photo):
    by_mask = fo.Detection.from_mask(coarse(), label="person", confidence=0.75, tags=["checked"], pose="sitting")
    by_box = fo.Detection(label="astronaut", bounding_box=BOX)
    dataset.add_samples(
        [
            fo.Sample(filepath=photo, found=fo.Detections(detections=[by_mask, by_box])),
            fo.Sample(filepath=str(sample_images()[0]), found=fo.Detections()),
            fo.Sample(filepath=str(sample_images()[1])),
        ]
    )
    assert refine_fiftyone(dataset, "found", "refined", EVERY) == 2
    dataset.reload()
    first, empty, none = dataset
    assert empty.refined.detections == []
    assert none.refined is None
    assert [one.label for one in first.refined.detections] == ["person", "astronaut"]
    person, astronaut = first.refined.detections
    assert (person.confidence, person.tags, person.pose) == (0.75, ["checked"], "sitting")
    assert person.id != first.found.detections[0].id

    image = read_image(photo)
    x, y, w, h = (512 * v for v in BOX)
    assert np.array_equal(rendered(astronaut), refine(image, boxes=[x, y, x + w, y + h]).mask(0))
    assert iou(rendered(person), rendered(astronaut)) > 0.9 > iou(rendered(person), coarse())
    # What it was made from is still there, and other tools of FiftyOne take the result.
    assert np.array_equal(rendered(first.found.detections[0]), coarse())
    dataset.set_values("found.detections", [[first.found.detections[0]], [], None])
    compared = dataset.limit(1).evaluate_detections("refined", gt_field="found", use_masks=True)
    assert compared.metrics(classes=["person"])["recall"] == 1


def test_a_view_and_masks_in_files(fo, dataset, photo, tmp_path):
    mask = coarse()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    inner = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    Image.fromarray(inner).convert("L").save(tmp_path / "mask.png")
    box = fo.Detection.from_mask(mask).bounding_box
    detection = fo.Detection(label="person", bounding_box=box, mask_path=str(tmp_path / "mask.png"))
    small = fo.Detection(label="person", bounding_box=box, mask=inner[::4, ::4])
    dataset.add_samples(
        [
            fo.Sample(filepath=photo, found=fo.Detections(detections=[one]))
            for one in (detection, small, detection.copy())
        ]
    )
    assert refine_fiftyone(dataset.limit(2), "found", "refined", EVERY) == 2
    first, second, third = dataset
    assert third.refined is None
    assert first.refined.detections[0].mask_path is None
    assert iou(rendered(first.refined.detections[0]), rendered(second.refined.detections[0])) > 0.95
    assert refine_fiftyone(dataset.exists("refined", False), "found", "refined", EVERY) == 1


def test_a_mask_that_the_gate_leaves_alone_is_copied(fo, dataset, photo):
    right = refine(read_image(photo), boxes=[20, 2, 400, 510]).mask(0)
    dataset.add_sample(fo.Sample(filepath=photo, found=fo.Detections(detections=[fo.Detection.from_mask(right)])))
    assert refine_fiftyone(dataset, "found", "refined") == 0
    (kept,) = dataset.first().refined.detections
    assert np.array_equal(rendered(kept), right)


def test_what_cannot_be_refined_is_said(fo, dataset, photo, tmp_path):
    sample = fo.Sample(filepath=photo, found=fo.Detections(detections=[fo.Detection(bounding_box=BOX)]))
    sample["kind"] = fo.Classification(label="person")
    dataset.add_sample(sample)
    with pytest.raises(ParamsError, match="another field"):
        refine_fiftyone(dataset, "found", "found")
    with pytest.raises(DataError, match="'nothing' must hold Detections"):
        refine_fiftyone(dataset, "nothing", "refined")
    with pytest.raises(DataError, match="got Classification"):
        refine_fiftyone(dataset, "kind", "refined")
    with pytest.raises(ParamsError, match=rf"sample {sample.id}: fixed parameters"):
        refine_fiftyone(dataset, "found", "refined", CRFParams())
    for damaged in ({"bounding_box": [0.1, 0.2]}, {"bounding_box": [3, 3, 1, 1]}, {"bounding_box": [0, 0, 0, 0]}):
        sample.found.detections = [fo.Detection(**damaged)]
        sample.save()
        with pytest.raises((DataError, ValueError), match=f"sample {sample.id}"):
            refine_fiftyone(dataset, "found", "refined")
    dataset.add_sample(
        fo.Sample(filepath=str(tmp_path / "gone.jpg"), found=fo.Detections(detections=[fo.Detection(bounding_box=BOX)]))
    )
    with pytest.raises(ImageError, match=r"gone\.jpg does not exist"):
        refine_fiftyone(dataset.skip(1), "found", "refined")


def test_samples_before_a_fault_are_saved(fo, dataset, photo, tmp_path):
    detections = fo.Detections(detections=[fo.Detection(bounding_box=BOX)])
    dataset.add_samples(
        [fo.Sample(filepath=path, found=detections.copy()) for path in (photo, str(tmp_path / "gone.jpg"))]
    )
    with pytest.raises(ImageError):
        refine_fiftyone(dataset, "found", "refined")
    dataset.reload()
    assert len(dataset.exists("refined")) == 1


def test_videos_are_refused(fo):
    dataset = fo.Dataset()
    dataset.media_type = "video"
    with pytest.raises(DataError, match="must be images"):
        refine_fiftyone(dataset, "found", "refined")
    dataset.delete()
