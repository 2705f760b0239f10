from __future__ import annotations

import numpy as np
import pytest

from crispmask.draw import before_after
from crispmask.draw.reduce import reduce_instances
from crispmask.image.scaling import reduced
from crispmask.instances import Instances


@pytest.mark.parametrize("shape", [(20, 30), (18, 29)])
def test_masks_are_the_majority_of_their_blocks(tricky_masks, shape):
    masks = np.stack([mask[: shape[0], : shape[1]] for mask in tricky_masks.values()])
    small = reduce_instances(Instances.from_masks(masks, scores=np.linspace(0, 1, len(masks))), 5)
    padded = np.pad(masks, ((0, 0), (0, 20 - shape[0]), (0, 30 - shape[1])))
    expected = padded.reshape(len(masks), 4, 5, 6, 5).mean(axis=(2, 4)) > 0.5
    assert (small.masks() == expected).all()
    assert small.boxes[0].tolist() == (Instances.from_masks(masks).boxes[0] / 5).tolist()


def test_a_large_image_gives_the_picture_of_its_half():
    """But for the close-up, which shows the pixels of the image itself."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (150, 220, 3), np.uint8)
    masks = np.zeros((2, 150, 220), bool)
    masks[0, 20:90, 30:120] = masks[1, 60:140, 100:200] = True
    before, after = Instances.from_masks(masks), Instances.from_masks(np.roll(masks, 4, axis=2))
    whole, half = (before_after(image, before, after, zoom=False, side=side).astype(float) for side in (110, 55))
    assert whole.shape[0] > half.shape[0]
    small = reduced(image, 2), reduce_instances(before, 2), reduce_instances(after, 2)
    again = before_after(*small, zoom=False, side=55)
    assert np.abs(again - half).mean() < 3
    assert before_after(image, before, after, side=55).shape[1] > half.shape[1]
