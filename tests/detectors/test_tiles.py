"""The whole image and its tiles: what is found, where, and once. The detector here sees bright rectangles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from crispmask.detectors.tiles import OVERLAP, find_in_tiles, merge, tile_rects
from crispmask.instances import Instances, Window

SIZE = (300, 400)


class Rectangles:
    """Finds the rectangles of one brightness, of `smallest` of the view's height or more, with soft masks."""

    def __init__(self, smallest: float = 0.0) -> None:
        self.smallest, self.views = smallest, []

    def __call__(self, image: np.ndarray) -> Instances:
        self.views.append(image.shape[:2])
        found = []
        for level in np.unique(image[..., 0])[1:]:
            for rows, columns in ndimage.find_objects(ndimage.label(image[..., 0] == level)[0]):
                if rows.stop - rows.start >= self.smallest * image.shape[0]:
                    found.append((rows, columns, int(level)))
        boxes = np.array([[c.start, r.start, c.stop, r.stop] for r, c, _ in found], np.float32).reshape(-1, 4)
        windows = tuple(
            Window(np.full((r.stop - r.start, c.stop - c.start), level / 255), r.start, c.start)
            for r, c, level in found
        )
        scores = [0.5 + level / 1000 for _, _, level in found]
        return Instances(image.shape[:2], boxes, scores, [1] * len(found), windows)


def canvas(*boxes: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """A black image with a rectangle in each box (x0, y0, x1, y1), each of its own brightness."""
    image = np.zeros((*size, 3), np.uint8)
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        image[y0:y1, x0:x1] = 250 - k
    return image


def boxes_of(found: Instances) -> list[tuple[int, ...]]:
    return [tuple(int(v) for v in box) for box in found.boxes]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (300, 401), (97, 1000)])
@pytest.mark.parametrize("tiles", [2, 3, 5])
def test_tiles_cover_the_image_and_overlap(size, tiles):
    rects = tile_rects(size, tiles)
    assert len(rects) == tiles**2
    assert len({(y1 - y0, x1 - x0) for y0, x0, y1, x1 in rects}) == 1
    seen = np.zeros(size, bool)
    for y0, x0, y1, x1 in rects:
        assert 0 <= y0 < y1 <= size[0]
        assert 0 <= x0 < x1 <= size[1]
        seen[y0:y1, x0:x1] = True
    assert seen.all()
    if min(size) > 50:
        (_, ax, _, bx), (_, cx, _, _) = rects[:2]
        assert abs((bx - cx) / (bx - ax) - OVERLAP) < 0.02


def test_one_tile_is_the_detector_alone():
    detector, image = Rectangles(), canvas((20, 30, 60, 90), (200, 100, 390, 290))
    (found,), alone = find_in_tiles(detector, [image], 1), Rectangles()(image)
    assert detector.views == [SIZE]
    assert boxes_of(found) == boxes_of(alone)
    np.testing.assert_array_equal(found.scores, alone.scores)


@pytest.mark.parametrize("tiles", [2, 3, 4])
def test_small_objects_are_found_in_their_places(tiles):
    """Objects that the detector sees in tiles alone, wherever a tile holds them whole; against the image itself."""
    rng = np.random.default_rng(tiles)
    side = SIZE[0] / (tiles - (tiles - 1) * OVERLAP)  # of a tile
    high = round(0.1 * side) + 2
    places = [(x, y) for y in range(8, SIZE[0] - high - 8, 2 * high) for x in range(8, SIZE[1] - high - 8, 2 * high)]
    boxes = [(x, y, x + high - int(rng.integers(3)), y + high) for x, y in places]
    image = canvas(*boxes)
    detector = Rectangles(smallest=0.1)
    assert not len(detector(image))
    (found,) = find_in_tiles(detector, [image], tiles)
    expected = [box for box in boxes if any(_holds(rect, box) for rect in tile_rects(SIZE, tiles))]
    assert len(expected) > len(boxes) / 2
    assert sorted(boxes_of(found)) == sorted(expected)
    assert (np.diff(found.scores) <= 0).all()
    for i, (x0, y0, x1, y1) in enumerate(boxes_of(found)):
        full = np.zeros(SIZE, np.float32)
        full[y0:y1, x0:x1] = image[y0, x0, 0] / 255
        np.testing.assert_array_equal(found.probability(i), full)
        assert found.windows[i].probabilities.shape == (y1 - y0, x1 - x0)  # a window, not a map of the image


def _holds(rect: tuple[int, int, int, int], box: tuple[int, int, int, int], margin: float = 0.02) -> bool:
    (ty0, tx0, ty1, tx1), (x0, y0, x1, y1) = rect, box
    dy, dx = margin * (ty1 - ty0), margin * (tx1 - tx0)
    left, right = tx0 == 0 or x0 > tx0 + dx, tx1 == SIZE[1] or x1 < tx1 - dx
    return left and right and (ty0 == 0 or y0 > ty0 + dy) and (ty1 == SIZE[0] or y1 < ty1 - dy)


def test_an_object_across_the_border_of_tiles_is_found_once_and_whole():
    """In the middle of the image all four tiles cut it or hold it: either way there is one object."""
    for box in [(150, 120, 250, 180), (185, 140, 215, 160), (190, 20, 230, 60), (0, 140, 60, 160)]:
        (found,) = find_in_tiles(Rectangles(), [canvas(box)], 2)
        assert boxes_of(found) == [box]


def test_what_a_tile_cuts_off_is_not_an_object():
    """The detector does not see the long object in the whole image: its pieces must not take its place."""

    def in_tiles_alone(image: np.ndarray) -> Instances:
        return Instances.empty(SIZE) if image.shape[:2] == SIZE else Rectangles()(image)

    (found,) = find_in_tiles(in_tiles_alone, [canvas((20, 130, 380, 150))], 2)
    assert len(found) == 0


def one(box: tuple[float, ...], score: float, category: int = 1) -> Instances:
    return Instances(SIZE, [box], [score], [category], [Window(np.ones((1, 1)), int(box[1]), int(box[0]))])


def test_merging_keeps_the_surest_of_each_object():
    box, near, apart = (10, 10, 50, 50), (12, 11, 51, 50), (100, 10, 140, 50)
    assert boxes_of(merge([one(box, 0.6), one(near, 0.7)])) == [near]
    assert boxes_of(merge([one(box, 0.7), one(near, 0.6)])) == [box]
    assert boxes_of(merge([one(box, 0.7), one(apart, 0.6)])) == [box, apart]


def test_finds_of_one_view_are_the_detectors_own_business():
    box, near = (10, 10, 50, 50), (12, 11, 51, 50)
    crowd = Instances.concatenate([one(box, 0.7), one(near, 0.6)])
    assert boxes_of(merge([crowd, Instances.empty(SIZE)])) == [box, near]


def test_several_images_at_once_see_one_view_of_each_at_a_time():
    class Batches(Rectangles):
        def batch(self, images):
            self.sizes.append([image.shape[:2] for image in images])
            return [self(image) for image in images]

    detector = Batches()
    detector.sizes = []
    images = [canvas((20, 30, 60, 90)), canvas((5, 5, 25, 30), size=(100, 90))]
    together = find_in_tiles(detector, images, 2)
    assert [len(sizes) for sizes in detector.sizes] == [2] * 5
    assert detector.sizes[0] == [SIZE, (100, 90)]
    for found, image in zip(together, images, strict=True):
        (single,) = find_in_tiles(Rectangles(), [image], 2)
        assert boxes_of(found) == boxes_of(single)
