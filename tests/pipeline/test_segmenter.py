from __future__ import annotations

import pytest
from PIL import Image

import crispmask
from crispmask.errors import ModelError, ParamsError, ShapeError
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.pipeline import Segmenter, Settings, refine_found, segment_image
from crispmask.refinement import refine
from crispmask.samples import sample_images


@pytest.mark.parametrize(("score", "expected"), [(0.0, [1, 7]), (0.6, [1, 7]), (0.61, [1]), (0.95, [])])
def test_score_chooses(image, blob_detector, score, expected):
    result = segment_image(image, blob_detector(), Settings(score=score))
    assert result.before.category_ids.tolist() == result.after.category_ids.tolist() == expected
    assert len(result.left_alone) == len(expected)


def test_refines_as_refine_does(image, blob_detector):
    params = CRFParams(theta_beta=20.0, colour="rgb")
    detector = blob_detector()
    result = segment_image(image, detector, Settings(params=params, score=0), threads=1)
    before, after = result.before, result.after
    expected = refine(image, detector(image), params)
    assert (before.masks() == detector(image).masks()).all()
    assert (after.masks() == expected.masks()).all()
    assert (after.masks() != before.masks()).any()


def test_joint_is_passed_on(image, blob_detector):
    settings = Settings(score=0, joint=True)
    after = segment_image(image, blob_detector(), settings).after
    assert (after.masks() == refine(image, blob_detector()(image), joint=True).masks()).all()


def test_without_refinement_masks_stay(image, blob_detector):
    result = segment_image(image, blob_detector(), Settings(refine=False, score=0))
    assert result.after is result.before
    assert result.left_alone == ("", "")


def test_nothing_found(image):
    result = segment_image(image, lambda image: Instances.empty(image.shape[:2]))
    assert len(result.before) == len(result.after) == 0


def test_masks_that_are_left_alone_say_why(image, blob_detector):
    """Annotated masks are right already: the gate leaves them as they are."""
    disc = Instances.from_masks((image.max(axis=2) > 140)[None])
    result = refine_found(image, disc, Settings())
    if result.left_alone[0]:
        assert (result.after.masks() == disc.masks()).all()
    fixed = refine_found(image, disc, Settings(params=CRFParams()))
    assert fixed.left_alone == ("",)


def test_a_segmenter(image, blob_detector, tmp_path):
    params = CRFParams(iterations=1)
    model = Segmenter(blob_detector(), params=params, score=0.7, threads=1)
    found, crisp = model.detect(image), model(image)
    assert found.category_ids.tolist() == crisp.category_ids.tolist() == [1]
    assert (found.masks() == blob_detector()(image).above(0.7).masks()).all()
    assert (crisp.masks() == refine(image, found, params).masks()).all()
    assert (model.refine(image, found).masks() == crisp.masks()).all()
    Image.fromarray(image).save(tmp_path / "a.png")
    assert (model(tmp_path / "a.png").masks() == crisp.masks()).all()
    assert (model(str(tmp_path / "a.png")).masks() == crisp.masks()).all()
    with pytest.raises(ShapeError, match="channels first"):
        model(image.transpose(2, 0, 1))


def test_classes_tiles_and_the_detectors_own_score(image, blob_detector):
    detector = blob_detector()
    detector.default_score = 0.95
    assert len(Segmenter(detector).detect(image)) == 0
    model = Segmenter(detector, classes="train", score=0.5, tiles=2)
    assert set(model.detect(image).category_ids.tolist()) == {7}
    assert (model.settings.classes, model.settings.score, model.settings.tiles) == (("train",), 0.5, 2)
    assert detector.calls == 1 + 5
    assert set(crispmask.segment(image, detector=detector, classes=[1], score=0).category_ids.tolist()) == {1}
    with pytest.raises(ParamsError, match="no class 'cow': It finds person, train"):
        Segmenter(detector, classes="cow")


def test_segment_in_one_call(image, blob_detector):
    options = {"params": "fixed", "score": 0.5, "joint": True}
    expected = Segmenter(blob_detector(), **options)(image)
    assert (crispmask.segment(image, detector=blob_detector(), **options).masks() == expected.masks()).all()


def test_a_detector_that_is_named_is_loaded_once(image, blob_detector, monkeypatch):
    from crispmask.pipeline import segmenter

    loads = []

    def load(name: str, **options: object):
        loads.append((name, options))
        return blob_detector()

    monkeypatch.setattr(segmenter, "load_detector", load)
    monkeypatch.setattr(segmenter, "device_of", lambda device, values: None)  # as if there were a GPU
    segmenter._loaded.cache_clear()
    for _ in range(3):
        assert len(crispmask.segment(image, params="fixed")) == 1
    assert len(crispmask.segment(image, device="cuda", params=CRFParams(), score=0)) == 2
    assert loads == [("embedded", {"device": None}), ("embedded", {"device": "cuda"})]
    segmenter._loaded.cache_clear()


@pytest.mark.parametrize("name", ["astronaut", "camera", "grace_hopper"])
def test_the_embedded_detector_finds_the_people(name):
    found = crispmask.segment(next(path for path in sample_images() if path.stem == name))
    assert found.category_ids[0] == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [({"detector": "yolo99"}, ModelError), ({"params": "papr"}, ParamsError), ({"score": 2}, ParamsError)],
)
def test_what_a_segmenter_refuses(options, error):
    with pytest.raises(error):
        Segmenter(**options)
