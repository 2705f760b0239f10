"""A data set of three small pictures, made on the spot."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def tiny_coco(tmp_path_factory):
    """(annotation file, image folder): discs named "disc" and one "square" on noise."""
    rng = np.random.default_rng(0)
    tmp_path = tmp_path_factory.mktemp("tiny_coco")
    folder = tmp_path / "photos"
    folder.mkdir()
    images, annotations = [], []
    for i in range(1, 4):
        picture = rng.integers(0, 80, (96, 128, 3), dtype=np.uint8)
        x, y, side = 20 + 10 * i, 15 * i, 40
        picture[y : y + side, x : x + side] = 220
        Image.fromarray(picture).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": 96, "width": 128})
        polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
        annotations.append(
            {
                "id": i,
                "image_id": i,
                "category_id": 1 if i < 3 else 2,
                "iscrowd": 0,
                "area": side * side,
                "bbox": [x, y, side, side],
                "segmentation": [polygon],
            }
        )
    categories = [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path, folder
