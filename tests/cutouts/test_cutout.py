from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter

import crispmask
from crispmask.cutouts.alpha import SoftEdge, cell_of
from crispmask.cutouts.foreground import estimate_colours
from crispmask.errors import ShapeError, ValueRangeError
from crispmask.instances import Instances
from crispmask.samples import sample_images

SIZE = 96


@pytest.fixture(scope="module")
def disc() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A reddish disc before a striped blue background, mixed where they meet: image, true alpha, true colours, mask."""
    y, x = np.mgrid[:SIZE, :SIZE]
    distance = 30 - np.hypot(y - SIZE / 2, x - SIZE / 2)
    alpha = np.clip(distance / 3 + 0.5, 0, 1).astype(np.float32)
    inside = np.stack([200 + 20 * np.sin(y / 9), 60 + 20 * np.cos(x / 11), np.full((SIZE, SIZE), 50)], -1)
    behind = np.stack([np.full((SIZE, SIZE), 20), 90 + 30 * np.sin(x / 5), np.full((SIZE, SIZE), 210)], -1)
    image = np.rint(alpha[..., None] * inside + (1 - alpha[..., None]) * behind).astype(np.uint8)
    return image, alpha, inside, distance > 0


def test_the_edge_is_soft_and_its_colours_are_the_objects(disc):
    image, alpha, inside, mask = disc
    (picture,) = crispmask.cutout(image, mask, crop=False)
    assert picture.shape == (SIZE, SIZE, 4)
    assert picture.dtype == np.uint8
    opacity = picture[:, :, 3] / 255
    assert np.abs(opacity - alpha).mean() < np.abs(mask - alpha).mean()
    assert ((opacity > 0.1) & (opacity < 0.9)).sum() > 100
    assert (picture[opacity == 1, :3] == image[opacity == 1]).all()
    assert not picture[opacity == 0].any()
    edge = (alpha > 0.3) & (alpha < 1) & (opacity > 0)
    plain = np.abs(image[edge] - inside[edge]).mean()
    assert np.abs(picture[edge, :3] - inside[edge]).mean() < plain / 3


def test_foreground_with_the_true_alpha(disc):
    image, alpha, inside, _ = disc
    edge = (alpha > 0.2) & (alpha < 1)
    error = np.abs(estimate_colours(image, alpha)[0] - inside)[edge].mean()
    assert error < 8
    assert np.abs(image - inside)[edge].mean() > 3 * error


@pytest.mark.needs("pymatting")
def test_foreground_against_pymatting(disc, tmp_path, monkeypatch):
    """Its module alone: its package compiles a hundred other functions when it is imported.

    What Numba keeps of a module that is loaded so cannot be read again: it is kept for this run only.
    """
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    folder = importlib.util.find_spec("pymatting").submodule_search_locations[0]
    file = Path(folder) / "foreground" / "estimate_foreground_ml.py"
    spec = importlib.util.spec_from_file_location("estimate_foreground_ml", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    image, alpha, _, _ = disc
    theirs = 255 * module.estimate_foreground_ml(image / 255.0, alpha.astype(np.float64), gradient_weight=5.0)
    ours, _ = estimate_colours(image, alpha)
    visible = alpha > 0.1
    assert np.abs(ours - theirs)[visible].mean() < 1


def test_alpha_far_from_the_edge(disc):
    image, _, _, mask = disc
    alpha = SoftEdge(image, mask.astype(np.float32), mask.shape).alpha
    inside, outside = distance_transform_edt(mask), distance_transform_edt(~mask)
    assert (alpha[inside > 5] == 1).all()
    assert (alpha[outside > 5] == 0).all()


def test_where_the_image_has_no_edge_alpha_is_the_mask_but_for_a_pixel(disc):
    mask = disc[3]
    noise = np.random.default_rng(0).integers(100, 104, (*mask.shape, 3)).astype(np.uint8)
    opacity = crispmask.cutout(noise, mask, crop=False)[0][:, :, 3]
    inside, outside = distance_transform_edt(mask), distance_transform_edt(~mask)
    assert (opacity[inside > 2] == 255).all()
    assert (opacity[outside > 2] == 0).all()
    assert ((opacity > 0) & (opacity < 255)).sum() > 100


def test_tiles_give_what_the_whole_gives(disc, monkeypatch):
    image, _, _, mask = disc
    (whole,) = crispmask.cutout(image, mask, crop=False)
    monkeypatch.setattr("crispmask.cutouts.cut._TILE", 20)
    (tiled,) = crispmask.cutout(image, mask, crop=False)
    assert np.abs(whole[:, :, 3].astype(int) - tiled[:, :, 3]).max() <= 1
    visible = whole[:, :, 3] > 25
    assert np.abs(whole[visible].astype(int) - tiled[visible]).max() <= 4


def visible_background(image: np.ndarray, colours: np.ndarray, alpha: np.ndarray, mask: np.ndarray) -> float:
    """How much of the old background the edge shows: 0 its inside's colour, 1 the background's.

    Of pixels within 3 of the mask's edge, where the two colours can be told apart, weighted by alpha.
    """
    inside, outside = distance_transform_edt(mask), distance_transform_edt(~mask)
    signed = np.where(mask, inside - 0.5, 0.5 - outside)
    smooth = gaussian_filter(image.astype(float), (1, 1, 0))

    def nearest(core: np.ndarray) -> np.ndarray:
        _, place = distance_transform_edt(~core, return_indices=True)
        return smooth[place[0], place[1]]

    own = nearest(signed > 6)
    direction = nearest(signed < -4) - own
    length = (direction**2).sum(-1)
    part = np.clip(((colours - own) * direction).sum(-1) / np.maximum(length, 1), 0, 1)
    weight = alpha * (np.abs(signed) <= 3) * (length > 3 * 30**2)
    return float((weight * part).sum() / weight.sum())


def test_sample_photos_lose_half_of_the_old_background():
    parts = []
    for path in sample_images():
        if path.stem not in ("astronaut", "camera", "coffee"):
            continue
        image = crispmask.read_image(path)
        found = crispmask.segment(image)[:1]
        (picture,) = crispmask.cutout(image, found, crop=False)
        mask = found.mask(0)
        before = visible_background(image, image, mask, mask)
        after = visible_background(image, picture[:, :, :3], picture[:, :, 3] / 255, mask)
        assert after < 0.7 * before, path.stem
        parts.append((before, after))
    before, after = np.mean(parts, axis=0)
    assert after < before / 2


def test_crop_and_together(disc):
    image, _, _, mask = disc
    other = np.zeros_like(mask)
    other[2:10, 80:94] = True
    full = crispmask.cutout(image, np.stack([mask, other]), crop=False)
    cropped = crispmask.cutout(image, np.stack([mask, other]))
    for picture, part in zip(full, cropped, strict=True):
        rows, columns = (np.flatnonzero(picture[:, :, 3].any(axis)) for axis in (1, 0))
        assert (picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == part).all()
    (both,) = crispmask.cutout(image, np.stack([mask, other]), crop=False, together=True)
    apart = np.maximum(full[0], full[1])[:, :, 3].astype(int)
    assert np.abs(both[:, :, 3] - apart).max() <= 2
    assert (both[:, :, 3] > 0).sum() == ((full[0][:, :, 3] > 0) | (full[1][:, :, 3] > 0)).sum()


def test_what_it_takes(disc, tmp_path):
    image, _, _, mask = disc
    Image.fromarray(image).save(tmp_path / "photo.png")
    (expected,) = crispmask.cutout(image, mask)
    assert (crispmask.cutout(tmp_path / "photo.png", Instances.from_masks(mask))[0] == expected).all()
    assert crispmask.cutout(image, Instances.empty((SIZE, SIZE))) == []


def test_nothing_and_everything(disc):
    image = disc[0]
    empty, full = np.zeros((SIZE, SIZE), bool), np.ones((SIZE, SIZE), bool)
    assert crispmask.cutout(image, empty)[0].tolist() == [[[0, 0, 0, 0]]]
    assert not crispmask.cutout(image, empty, crop=False)[0].any()
    assert crispmask.cutout(image, Instances.empty((SIZE, SIZE)), together=True)[0].shape == (1, 1, 4)
    (all_of_it,) = crispmask.cutout(image, full)
    assert (all_of_it[:, :, :3] == image).all()
    assert (all_of_it[:, :, 3] == 255).all()
    one = empty.copy()
    one[0, 0] = True
    assert crispmask.cutout(image, one)[0].ndim == 3


def test_large_objects_are_worked_on_in_cells_of_several_pixels(disc):
    """The disc at sixteen times its size gives the same cut-out."""
    image, _, _, mask = disc
    large = [np.asarray(Image.fromarray(part).resize((16 * SIZE, 16 * SIZE), 2)) for part in (image, mask)]
    assert cell_of(large[1].any(0).sum()) > 2
    (picture,) = crispmask.cutout(large[0], large[1], crop=False)
    (small,) = crispmask.cutout(image, mask, crop=False)
    opaque = picture[:, :, 3] == 255
    assert (picture[opaque, :3] == large[0][opaque]).all()
    shrunk = np.asarray(Image.fromarray(picture[:, :, 3]).reduce(16))
    assert np.abs(shrunk.astype(int) - small[:, :, 3]).mean() < 3


def test_what_is_refused(disc):
    image = disc[0]
    with pytest.raises(ShapeError, match="96x96"):
        crispmask.cutout(image, np.zeros((5, 5), bool))
    with pytest.raises(ValueRangeError, match="uint8"):
        crispmask.cutout(image / 255, np.zeros((SIZE, SIZE), bool))
