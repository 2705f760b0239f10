"""Masks of people by MediaPipe's selfie segmentation, as COCO results: masks that nothing here was made with.

    npm pack @mediapipe/selfie_segmentation && tar xf mediapipe-selfie_segmentation-*.tgz
    python benchmarks/selfie.py package/selfie_segmentation.tflite -a instances.json -i FOLDER -o selfie.json
    crispmask refine selfie.json -i FOLDER -a instances.json -o refined.json
    crispmask evaluate -a instances.json before=selfie.json after=refined.json

The model sees a square around the annotated box of each object; its mask is cut at the box. Needs `pip install
ai-edge-litert`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from crispmask import read_image
from crispmask.coco import CocoDataset
from crispmask.coco.rle import mask_to_rle
from crispmask.refinement.crops import Crop

CONTEXT = 1.3  # side of the square, as a multiple of the box's longer side
SCORE = 0.9  # of every mask: a model made it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("-a", "--annotations", type=Path, required=True)
    parser.add_argument("-i", "--images", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()

    from ai_edge_litert.interpreter import Interpreter

    network = Interpreter(str(options.model))
    network.allocate_tensors()
    given, answer = network.get_input_details()[0], network.get_output_details()[0]
    cells = int(given["shape"][1])
    data, results = CocoDataset.from_file(options.annotations), []
    for info in data.images.values():
        image = read_image(options.images / info.file_name)
        for record in data.annotations[info.id]:
            if record["iscrowd"]:
                continue
            x, y, w, h = record["bbox"]
            side = round(CONTEXT * max(w, h))
            crop = Crop(round(x + w / 2 - side / 2), round(y + h / 2 - side / 2), side, cells)
            network.set_tensor(given["index"], np.float32(crop.image(image)[None]) / 255)
            network.invoke()
            found, inside = network.get_tensor(answer["index"])[0, :, :, 0], crop.rect(info.size)
            probabilities = np.zeros(info.size, np.float32)
            probabilities[inside.slices] = crop.back(found, inside, inside.shape)
            mask = np.zeros(info.size, bool)
            box = slice(max(0, int(y)), int(np.ceil(y + h))), slice(max(0, int(x)), int(np.ceil(x + w)))
            mask[box] = probabilities[box] > 0.5
            results.append(
                {
                    "image_id": info.id,
                    "category_id": record["category_id"],
                    "bbox": record["bbox"],
                    "score": SCORE,
                    "segmentation": mask_to_rle(mask),
                }
            )
    options.output.write_text(json.dumps(results))
    print(f"{len(results)} masks in {options.output}")


if __name__ == "__main__":
    main()
