"""What the mask branch learns from, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")
pytest.importorskip("torchvision", reason="extra torch is not installed")

from crispmask.training.embedded.branch import SIDE, MaskBranch  # noqa: E402
from crispmask.training.embedded.features import Features  # noqa: E402
from crispmask.training.embedded.fit import chances, fit, training_images  # noqa: E402
from crispmask.training.embedded.nanodet import NanoDet  # noqa: E402
from crispmask.training.refiner.objects import Source, decode, read_objects  # noqa: E402


@pytest.fixture
def objects(discs):
    return read_objects([Source(discs.annotations, discs.images)])


@pytest.mark.parametrize("mirrored", [False, True])
def test_targets_are_shares_of_cells(objects, mirrored):
    """In a box of 56 x 56 pixels each cell has 2 x 2, of which the mask covers a share."""
    image = training_images(objects)[0]
    whole = decode([objects[0].rle], image.image.size)
    x0, y0 = 5, -4
    target = image.target(0, torch.tensor([x0, y0, x0 + 2.0 * SIDE, y0 + 2.0 * SIDE]), mirrored)
    canvas = np.zeros((200, 200))
    canvas[50 : 50 + whole.shape[0], 50 : 50 + whole.shape[1]] = whole[:, ::-1] if mirrored else whole
    expected = canvas[50 + y0 : 50 + y0 + 2 * SIDE, 50 + x0 : 50 + x0 + 2 * SIDE].reshape(SIDE, 2, SIDE, 2).mean((1, 3))
    assert target.sum() > 20
    # Samples between pixels blur the edge a little.
    assert np.abs(target.numpy() - expected).max() < 0.3
    assert abs(float(target.mean()) - expected.mean()) < 0.002


def test_sources_have_their_share_of_the_boxes(objects):
    images = training_images(objects)
    drawn = chances(images, [0.3])
    assert drawn.sum() == pytest.approx(1)
    np.testing.assert_allclose(drawn, 1 / len(images))  # one or two objects are two boxes


def test_features_come_back_as_they_were(objects, tmp_path):
    torch.manual_seed(0)
    features, image = Features(NanoDet().eval(), tmp_path), objects[0].image
    plain, size, _ = features.of(image, False)
    mirrored, _, _ = features.of(image, True)
    assert size == (312, 416)
    assert plain.late[2].shape == mirrored.late[2].shape == (1, 128, 10, 13)
    assert not torch.equal(plain.early[0], mirrored.early[0])
    later = Features(NanoDet().eval(), tmp_path)  # other weights: it must not compute again
    assert torch.equal(later.of(image, False)[0].late[0], plain.late[0])


def test_a_short_training_brings_the_loss_down(objects, tmp_path):
    torch.manual_seed(0)
    features, images = Features(NanoDet().eval(), tmp_path), training_images(objects)[:2]
    branch, losses = MaskBranch(), []

    class Enough(Exception):
        pass

    def step(number, gone, loss):
        losses.append(loss)
        if number == 8:
            raise Enough

    with pytest.raises(Enough):
        fit(branch, images, features, np.array([0.5, 0.5]), 1e6, 0, step)
    assert losses[-1] < 0.9 * losses[0]
