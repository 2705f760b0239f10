"""A data set with everything that formats get wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crispmask.coco import CocoDataset, mask_to_rle


@pytest.fixture
def images(tmp_path, tricky_masks) -> Path:
    """Folder `images`: an image per tricky mask, one with three objects, one without any, some in a sub-folder."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for name in names(tricky_masks):
        Image.new("RGB", (53, 37)).save(folder / name)
    return folder


def names(tricky_masks: dict[str, np.ndarray]) -> list[str]:
    return [*(f"{k}.jpg" for k in tricky_masks), "sub/many.jpg", "sub/none.jpg"]


@pytest.fixture
def truth(tmp_path, tricky_masks) -> Path:
    """`gt.json` of these images: ids 10, 11, ...; categories 3 and 7."""
    images, annotations = [], []
    for k, name in enumerate(names(tricky_masks)):
        images.append({"id": 10 + k, "file_name": name, "height": 37, "width": 53})
        found = [tricky_masks[name.removesuffix(".jpg")]] if k < len(tricky_masks) else []
        if name == "sub/many.jpg":
            found = [tricky_masks[which] for which in ("holes", "parts", "one pixel")]
        for i, mask in enumerate(found):
            record = {"id": len(annotations) + 1, "image_id": 10 + k, "category_id": (3, 7)[i % 2], "iscrowd": 0}
            annotations.append({**record, "segmentation": mask_to_rle(mask)})
    categories = [{"id": 3, "name": "person"}, {"id": 7, "name": "potted: plant"}]
    path = tmp_path / "gt.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def masks_by_name(path: Path) -> dict[str, list[tuple[str, bytes]]]:
    """Of a COCO file: category name and mask of every object, by the image's name without its suffix."""
    dataset = CocoDataset.from_file(path)
    found = {}
    for key, image in dataset.images.items():
        instances = dataset.instances(key, crowds=True)
        ids = instances.category_ids.tolist()
        found[str(Path(image.file_name).with_suffix(""))] = [
            (dataset.categories[c], instances.mask(i).tobytes()) for i, c in enumerate(ids)
        ]
    return found
