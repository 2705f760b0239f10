"""What can be asked of an open photo, without a server."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from crispmask import CRFParams, cutout, refine
from crispmask.app import downloads, edge, scene
from crispmask.app.edits import EDITS, add_mask, edit
from crispmask.app.mattes import Matte
from crispmask.app.photos import Closed, Photos
from crispmask.app.refiner import Refiner, Source
from crispmask.app.scene import Photo, Settings
from crispmask.app.strokes import Paint
from crispmask.detectors import select
from crispmask.errors import CrispmaskError, DataError
from crispmask.instances import Instances, Window
from crispmask.refinement import default_params, refine_instances
from crispmask.refinement.gate import Gate
from crispmask.refinement.sketch import mask_from_box
from crispmask.refinement.windows import Rect

HEIGHT, WIDTH = 120, 160
DISC = (np.hypot(*(np.mgrid[:HEIGHT, :WIDTH] - np.array([60, 50])[:, None, None]))) < 30
SQUARE = np.zeros((HEIGHT, WIDTH), bool)
SQUARE[30:90, 100:150] = True


class Detector:
    """Finds a person (score 0.9) and a dog (0.4), both a few pixels off; counts the views."""

    name, checksum, views = "two", "0" * 64, 0

    def __init__(self) -> None:
        self.categories = {1: "person", 18: "dog"}

    def __call__(self, image: np.ndarray) -> Instances:
        self.views += 1
        if image.shape[:2] != (HEIGHT, WIDTH):
            return Instances.empty(image.shape[:2])
        masks = np.stack([np.roll(DISC, 4, 1), np.roll(SQUARE, -3, 0)])
        return Instances.from_masks(masks, scores=[0.9, 0.4], category_ids=[1, 18])


def picture() -> np.ndarray:
    """A disc and a square on grey: uint8 (120, 160, 3)."""
    rng = np.random.default_rng(0)
    image = rng.integers(80, 95, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    image[DISC] += np.array([120, 40, 0], np.uint8)
    image[SQUARE] += np.array([0, 60, 120], np.uint8)
    return image


def opened(**settings) -> Photo:
    return Photo(picture(), "disc.png", select(Detector()), Refiner(), Settings(**settings))


def masks(photo: Photo) -> np.ndarray:
    return photo.scene.instances(photo.size).masks()


def stroke(*points: tuple[float, float], radius: float = 4) -> dict:
    return {"radius": radius, "points": [list(point) for point in points]}


@pytest.mark.parametrize(
    ("score", "classes", "labels"),
    [
        (0.3, [], ["person", "dog"]),
        (0.5, [], ["person"]),
        (0.3, ["dog"], ["dog"]),
        (0.5, ["dog"], []),
    ],
)
def test_detecting_some_classes_from_a_score_on(score, classes, labels):
    photo = opened(score=0.95)
    assert photo.scene.things == ()
    edit(photo, {"do": "detect", "score": score, "classes": classes, "tiles": 1})
    assert [thing.label for thing in photo.scene.things] == labels
    assert photo._detector.detector.views == 1  # the finds are kept


def test_small_objects_are_looked_for_in_tiles():
    photo = opened()
    edit(photo, {"do": "detect", "score": 0.3, "classes": [], "tiles": 2})
    assert photo._detector.detector.views == 6  # once when it was opened


def test_the_first_masks_are_those_of_the_library():
    photo = opened(score=0.3)
    expected, _ = refine_instances(picture(), Detector()(picture()), default_params())
    np.testing.assert_array_equal(masks(photo), expected.masks())


@pytest.mark.parametrize("method", ["learned", "fixed"])
@pytest.mark.parametrize("position", [-1, -0.4, 0.4, 1])
def test_the_slider_gives_what_its_parameters_give(method, position):
    """Whatever was asked before: the network's answer and the lattices that are kept change nothing."""
    photo = opened(score=0.3, method=method)
    for before in (0.7, -0.2, position):
        edit(photo, {"do": "edge", "edge": before})
    params = edge.at(photo.scene.settings.params(), position)
    expected, _ = refine_instances(picture(), Detector()(picture()), params)
    np.testing.assert_array_equal(masks(photo), expected.masks())


def test_only_the_chosen_object_changes():
    photo = opened(score=0.3)
    before = masks(photo)
    person, dog = photo.scene.things
    edit(photo, {"do": "edge", "edge": -1, "object": dog.key})
    after = masks(photo)
    np.testing.assert_array_equal(after[0], before[0])
    assert photo.scene.thing(person.key) is person
    assert photo.scene.thing(dog.key).edge == -1
    assert photo.scene.settings.edge == 0


def test_parameters_by_name():
    photo = opened(score=0.3)
    edit(photo, {"do": "params", "method": "fixed", "values": {"theta_beta": 9}})
    expected = refine(picture(), Detector()(picture()), CRFParams(theta_beta=9))
    np.testing.assert_array_equal(masks(photo), expected.masks())
    assert downloads.command_line(photo.scene) == "crispmask segment IMAGE -o out --params fixed --theta-beta 9.0"
    with pytest.raises(CrispmaskError, match="theta_beta must be"):
        edit(photo, {"do": "params", "method": "fixed", "values": {"theta_beta": -9}})
    np.testing.assert_array_equal(masks(photo), expected.masks())


def test_a_box_becomes_what_the_library_makes_of_it():
    photo = opened(score=0.95)
    key = edit(photo, {"do": "box", "box": [85, 95, 15, 25]})  # from any corner
    assert [thing.key for thing in photo.scene.things] == [key]
    np.testing.assert_array_equal(masks(photo)[0], mask_from_box(picture(), (15, 25, 85, 95)).mask(0))


def test_a_click_finds_what_the_detector_saw():
    photo = opened(score=0.95)
    key = edit(photo, {"do": "click", "at": [125, 60]})
    thing = photo.scene.thing(key)
    assert (thing.label, thing.origin) == ("dog", "click")
    assert (masks(photo)[0] & SQUARE).sum() > 0.9 * SQUARE.sum()


def test_a_click_in_a_large_photo_has_a_mask_of_its_size(monkeypatch):
    monkeypatch.setattr(scene, "SMALL_PIXELS", 30 * 40)

    class Small(Detector):
        def __call__(self, image: np.ndarray) -> Instances:
            if image.shape[:2] != (30, 40):
                return Instances.empty(image.shape[:2])
            return Instances.from_masks(SQUARE[::4, ::4][None], scores=[0.5], category_ids=[18])

    photo = Photo(picture(), "x", select(Small()), Refiner(), Settings())
    edit(photo, {"do": "click", "at": [125, 60]})
    mask = masks(photo)[0]
    assert (mask & SQUARE).sum() / (mask | SQUARE).sum() > 0.8


def test_a_click_beside_what_the_detector_knows_asks_the_network():
    class Blind(Detector):
        def __call__(self, image: np.ndarray) -> Instances:
            return Instances.empty(image.shape[:2])

    photo = Photo(picture(), "x", select(Blind()), Refiner(), Settings())
    edit(photo, {"do": "click", "at": [50, 60]})
    assert masks(photo)[0][60, 50]


def test_marks_make_an_object_and_more_marks_mend_it():
    photo = opened(score=0.95)
    inside, outside = [stroke((50, 45), (50, 75))], [stroke((5, 5), (5, 115)), stroke((90, 5), (90, 115))]
    edit(photo, {"do": "marks", "inside": inside, "outside": outside, "step": 3})
    (mask,) = masks(photo)
    assert (mask & DISC).sum() / (mask | DISC).sum() > 0.8
    edit(photo, {"do": "marks", "inside": inside, "outside": [*outside, stroke((150, 100))], "step": 3})
    assert len(photo.scene.things) == 1  # in place of the one before
    edit(photo, {"do": "undo"})
    assert photo.scene.things == ()


@pytest.mark.parametrize(
    ("given", "missing"), [("inside", "background too, in red"), ("outside", "object too, in green")]
)
def test_marks_of_one_colour_say_what_is_missing(given, missing):
    photo = opened()
    request = {"do": "marks", "inside": [], "outside": [], given: [stroke((50, 60))]}
    with pytest.raises(DataError, match=missing):
        edit(photo, request)


@pytest.mark.parametrize("method", ["learned", "fixed"])
def test_what_is_painted_stays(method):
    """To the pixel, also a speck that cleaning would remove, and whatever happens to the slider afterwards."""
    photo = opened(method=method)
    (thing,) = photo.scene.things
    edit(photo, {"do": "paint", "object": thing.key, "add": True, "strokes": [stroke((140, 10), radius=2)]})
    edit(photo, {"do": "paint", "object": thing.key, "add": False, "strokes": [stroke((50, 60), radius=5)]})
    for position in (0, 1, -1):
        edit(photo, {"do": "edge", "edge": position})
        (mask,) = masks(photo)
        assert mask[10, 140]
        assert not mask[57:63, 47:53].any()
        assert mask[40, 50]
    edit(photo, {"do": "paint", "object": thing.key, "add": True, "strokes": [stroke((50, 60), radius=5)]})
    assert masks(photo)[0][57:63, 47:53].all()  # the later stroke counts


def test_paint_frees_the_outline_from_the_gates_reach():
    """A mask that may move by a pixel only, without paint: what is painted far from it takes its surroundings along."""
    gate = Gate.constant(-1, 0, near_gain=0.1, near_margin=0.0)
    params = replace(default_params(), binary_gate=gate, soft_gate=gate, reach=0.02)
    source = Source(Window(np.roll(SQUARE, 8, 1).astype(np.float32), 0, 0), (108.0, 30.0, 158.0, 90.0))
    signs = np.zeros((HEIGHT, WIDTH), np.int8)
    signs[58:62, 103:105] = 1
    paint = Paint(signs, Rect(0, 0, HEIGHT, WIDTH))
    (held,), (painted,), (free,) = (
        Refiner().refine(picture(), [(source, 0.0, marks)], chosen)
        for marks, chosen in ((None, params), (paint, params), (paint, params.with_overrides({"gated": "none"})))
    )
    first = [np.flatnonzero(one.matte.window().mask.any(0))[0] + one.matte.x for one in (held, painted)]
    assert first == [107, 100]  # the square begins there
    np.testing.assert_array_equal(painted.matte.alpha, free.matte.alpha)


def test_everything_erased_is_refused():
    photo = opened()
    (thing,) = photo.scene.things
    whole = [stroke(*[(x, y) for y in range(0, 121, 20) for x in (0, 160)], radius=30)]
    with pytest.raises(DataError, match="delete it instead"):
        edit(photo, {"do": "paint", "object": thing.key, "add": False, "strokes": whole})
    assert photo.scene.things == (thing,)


def test_an_own_mask_is_refined():
    photo = opened(score=0.95)
    own = np.roll(SQUARE, 5, 1)
    add_mask(photo, np.repeat(own[..., None] * np.uint8(255), 3, 2))
    np.testing.assert_array_equal(masks(photo)[0], refine(picture(), own))
    for wrong, sentence in ((np.zeros((9, 8, 3), np.uint8), "8x9 pixels"), (np.zeros_like(picture()), "empty")):
        with pytest.raises(CrispmaskError, match=sentence):
            add_mask(photo, wrong)


def test_undo_and_redo():
    photo = opened(score=0.3)
    states = [photo.scene]
    person, dog = photo.scene.things
    edit(photo, {"do": "delete", "object": dog.key})
    states.append(photo.scene)
    for position in (0.1, 0.2, 0.3):  # one movement of the slider is one step
        edit(photo, {"do": "edge", "edge": position, "step": 1})
    states.append(photo.scene)
    edit(photo, {"do": "edge", "edge": 0.5, "step": 2})
    states.append(photo.scene)
    for state in (*states[-2::-1], states[0]):  # at the end there is nothing to undo
        edit(photo, {"do": "undo"})
        assert photo.scene is state
    for state in (*states[1:], states[-1]):
        edit(photo, {"do": "redo"})
        assert photo.scene is state
    edit(photo, {"do": "undo"})
    edit(photo, {"do": "delete", "object": person.key})
    assert not photo.can_redo


def test_deleted_objects_are_not_found_again():
    photo = opened(score=0.3)
    edit(photo, {"do": "delete", "object": photo.scene.things[0].key})
    edit(photo, {"do": "detect", "score": 0.2, "classes": [], "tiles": 1})
    assert [thing.label for thing in photo.scene.things] == ["dog"]


def test_steps_and_their_memory_are_bounded(monkeypatch):
    photo = opened()
    monkeypatch.setattr(scene, "STEPS", 5)
    for k in range(8):
        edit(photo, {"do": "edge", "edge": k / 10})
    assert len(photo._history) == 6
    monkeypatch.setattr(scene, "MAX_BYTES", 1)
    edit(photo, {"do": "edge", "edge": 1})
    assert len(photo._history) == 2  # one step can always be undone


NUMBER = {"do": "edge", "edge": 0.5}
POINTS = {"do": "marks", "outside": [stroke((1, 1))]}


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ([], "must be a JSON object"),
        ({}, "do must be one of"),
        ({"do": ["edge"]}, "do must be one of"),
        ({"do": "eval"}, "do must be one of"),
        ({**NUMBER, "edge": "1"}, "edge must be a number"),
        ({**NUMBER, "edge": True}, "edge must be a number"),
        ({**NUMBER, "edge": 2}, "from -1 to 1"),
        ({**NUMBER, "edge": float("nan")}, "edge must be a number"),
        ({**NUMBER, "object": 10**9}, "there is no object"),
        ({**NUMBER, "object": "1"}, "object must be the number"),
        ({**NUMBER, "step": 1.5}, "step must be"),
        ({"do": "delete"}, "object must be the number"),
        ({"do": "box", "box": [1, 2, 3]}, "box must be 4 numbers"),
        ({"do": "box", "box": [1, 2, 3, 1e300]}, "box must be 4 numbers"),
        ({"do": "box", "box": [500, 500, 600, 600]}, "less than one pixel"),
        ({"do": "click", "at": [500, 60]}, "outside the photo"),
        ({"do": "click", "at": "50,60"}, "at must be 2 numbers"),
        ({"do": "params", "method": "magic"}, "method must be one of"),
        ({"do": "params", "method": "learned", "values": [1]}, "values must be"),
        ({"do": "params", "method": "learned", "values": {"theta": 1}}, "unknown parameter 'theta'"),
        ({"do": "params", "method": "learned", "values": {"gated": "some"}}, "the gate decides"),
        ({"do": "detect", "score": 0.5, "classes": "dog", "tiles": 1}, "classes must be"),
        ({"do": "detect", "score": 0.5, "classes": [], "tiles": 99}, "tiles must be"),
        ({**POINTS, "inside": [{"radius": 1, "points": []}]}, "inside must be a list of strokes"),
        ({**POINTS, "inside": [{"radius": -1, "points": [[1, 1]]}]}, "inside must be a list of strokes"),
        ({**POINTS, "inside": [{"radius": 1, "points": [[1, 1, 1]]}]}, "inside must be a list of strokes"),
        ({**POINTS, "inside": [stroke((1e6, 1e6))]}, "did not touch the photo"),
        ({**POINTS, "inside": [stroke(*[(1, 1)] * 20_001)]}, "20001 points"),
        ({**POINTS, "inside": [stroke((1, 1), radius=1e5)]}, "inside must be a list of strokes"),
    ],
)
def test_bad_requests_change_nothing(request_, sentence):
    photo = opened()
    before = photo.scene
    with pytest.raises(CrispmaskError, match=sentence):
        edit(photo, request_)
    assert photo.scene is before


def test_every_edit_is_tried_here():
    assert set(EDITS) == {"detect", "edge", "params", "click", "box", "marks", "paint", "delete", "undo", "redo"}


def test_mattes_keep_the_mask_to_the_pixel():
    half = np.float32(0.5)
    values = np.array([[0, half, np.nextafter(half, np.float32(1)), 1]], np.float32)
    matte = Matte.of(Window(np.repeat(values, 3, 0), 5, 7))
    assert matte.alpha[0].tolist() == [127, 128, 255]
    assert (matte.y, matte.x) == (5, 8)
    assert matte.window().mask[0].tolist() == [False, True, True]
    content, place = matte.sketch(1)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), matte.alpha)
    assert place == (8, 5, 3, 3)
    assert Matte.of(Window(np.zeros((3, 3), np.float32), 0, 0)).empty


def test_downloads_are_of_this_moment(tmp_path):
    photo = opened(score=0.3)
    dog = photo.scene.things[1].key
    for position in (0, 1):
        edit(photo, {"do": "edge", "edge": position})
        expected = masks(photo)
        mask = np.asarray(Image.open(io.BytesIO(downloads.mask(photo, photo.scene, dog))))
        np.testing.assert_array_equal(mask > 0, expected[1])
        union = np.asarray(Image.open(io.BytesIO(downloads.mask(photo, photo.scene))))
        np.testing.assert_array_equal(union > 0, expected.any(0))
        records = json.loads(downloads.coco(photo, photo.scene, None))
        assert [record["category"] for record in records] == ["person", "dog"]
        found = photo.scene.instances(photo.size)
        rgba = np.asarray(Image.open(io.BytesIO(downloads.cut_out(photo, photo.scene))))
        np.testing.assert_array_equal(rgba, cutout(photo.image, found, crop=False, together=True)[0])
    cut = Image.open(io.BytesIO(downloads.cut_out(photo, photo.scene, dog)))
    assert cut.mode == "RGBA"
    assert cut.size < (WIDTH, HEIGHT)
    downloads.archive([photo, photo], tmp_path / "all.zip")
    names = zipfile.ZipFile(tmp_path / "all.zip").namelist()
    assert {"disc/cutouts/2_dog.png", "disc_2/masks/1_person.png", "disc/coco_results.json"} <= set(names)


def test_downloads_without_objects_say_so():
    photo = opened(score=0.95)
    for make in (downloads.cut_out, downloads.mask):
        with pytest.raises(DataError, match="there is no object yet"):
            make(photo, photo.scene)
    assert json.loads(downloads.polygons(photo, photo.scene)) == []


def test_the_open_photos_are_bounded():
    photos = Photos(most=3)
    opened_ = [opened() for _ in range(5)]
    for photo in opened_:
        photos.add(photo)
        photos.get(opened_[0].id)  # the first is in use
    assert len(photos) == 3
    assert photos.get(opened_[0].id) is opened_[0]
    with pytest.raises(Closed, match="open it again"):
        photos.get(opened_[1].id)
    few = Photos(most_bytes=opened_[0].bytes + 1)
    for photo in opened_[:2]:
        few.add(photo)
    assert len(few) == 1
    few.close(opened_[1].id)
    assert len(few) == 0


def test_lattices_are_bounded_and_forgotten(monkeypatch):
    photo = opened(score=0.3)
    refiner = photo._refiner
    assert len(refiner._lattices) == 2
    for beta in (3, 4, 5, 6):
        edit(photo, {"do": "params", "method": "learned", "values": {"theta_beta": beta}})
    assert all(len(lattices) <= 2 for lattices in refiner._lattices.values())
    monkeypatch.setattr("crispmask.app.refiner.MAX_LATTICES", 1)
    edit(photo, {"do": "edge", "edge": 0.5})
    assert not refiner._lattices
    monkeypatch.undo()
    edit(photo, {"do": "edge", "edge": 0.6})
    photo.close()
    assert not refiner._lattices


def test_the_picture_of_a_very_long_photo_is_one_that_browsers_show():
    photo = Photo(np.zeros((20, 50_000, 3), np.uint8), "x", select(Detector()), Refiner(), Settings())
    assert max(Image.open(io.BytesIO(photo.shown)).size) <= scene.LONGEST_SIDE
