"""How long does an evaluation take, do all evaluators agree, and what would the matches of a library cost?

    python benchmarks/evaluate.py --annotations instances.json [--results results.json] [--resamples 1000]

Without results, detections are made from the annotated masks: each one eight times, shifted at random by up to 8 % of
the object's size, with random scores. Times are processor time, the best of several rounds; peers that are not
installed are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from crispmask.coco import CocoDataset, mask_to_rle, read_results, segmentation_to_mask, write_results
from crispmask.evaluation import average_precision
from crispmask.evaluation.bootstrap import draws
from crispmask.evaluation.columns import annotation_columns, detection_columns
from crispmask.evaluation.comparison import compare
from crispmask.evaluation.metrics import match_detections

T = TypeVar("T")
Run = Callable[[Path, Path, str], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = options.results or made_results(options.annotations, Path(folder) / "results.json")
        table(options.annotations, results, options.rounds)
        bootstrap(options.annotations, results, options.resamples)
        matches(options.annotations, results)


def table(annotations: Path, results: Path, rounds: int) -> None:
    """Time and AP of every evaluator for every kind, and the ratio to crispmask in the same run."""
    print(f"{len(read_results(results))} detections\n")
    print("| | kind | AP, % | processor time, s | times as long as crispmask |")
    print("| --- | --- | ---: | ---: | ---: |")
    for kind in ("segm", "bbox", "boundary"):
        own = None
        for name, run in evaluators(kind).items():
            run(annotations, results, kind)  # compiles, and warms the caches
            times = []
            for _ in range(rounds):
                started = time.process_time()
                ap = run(annotations, results, kind)
                times.append(time.process_time() - started)
            own = own or min(times)
            print(f"| {name} | {kind} | {100 * ap:.6f} | {min(times):.3f} | {min(times) / own:.1f} |", flush=True)


def bootstrap(annotations: Path, results: Path, resamples: int) -> None:
    """What intervals cost: two results, masks, boundaries and boxes, all categories."""
    dataset, records = CocoDataset.from_file(annotations), read_results(results)
    times = []
    for n in (0, resamples):
        started = time.process_time()
        compare(dataset, {"a": records, "b": records}, all_categories=True, resamples=n)
        times.append(time.process_time() - started)
    print(f"\nTwo results, three kinds, {len(dataset.images)} images: {times[0]:.1f} s of processor time, ", end="")
    print(f"{times[1]:.1f} s with {resamples} resamples.")


def matches(annotations: Path, results: Path) -> None:
    """Where the matches for the bootstrap could come from: processor time to match all masks, and to measure a draw."""
    dataset, records = CocoDataset.from_file(annotations), read_results(results)
    categories, images = list(dataset.categories), list(dataset.images)
    sides = (
        annotation_columns(dataset, categories, images, masks=True, boxes=False),
        detection_columns(dataset, records, categories, images, "results", masks=True, boxes=False),
    )
    weights = draws(len(images), 100)
    print("\n| masks of all categories | to match, s | to hand over the matches, s | to measure a draw, ms |")
    print("| --- | ---: | ---: | ---: |")
    match_detections(*sides, "segm", categories, len(images)).measure(weights[:1])  # compiles
    match, matched = timed(lambda: match_detections(*sides, "segm", categories, len(images)))
    draw, _ = timed(lambda: matched.measure(weights))
    print(f"| crispmask | {match:.3f} | 0 | {10 * draw:.1f} |", flush=True)
    with contextlib.suppress(ImportError):
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(annotations))
            evaluation = COCOeval(truth, truth.loadRes(records_for(results, "segm")), "segm")
            match, _ = timed(evaluation.evaluate)
            draw, _ = timed(evaluation.accumulate)
        print(f"| pycocotools | {match:.3f} | 0 | {1000 * draw:.1f} |", flush=True)
    with contextlib.suppress(ImportError):
        import faster_coco_eval
        from faster_coco_eval.faster_eval_api_cpp import COCOevalAccumulate

        faster = faster_coco_eval.COCO(str(annotations))
        run = faster_coco_eval.COCOeval_faster(faster, faster.loadRes(records_for(results, "segm")), "segm")
        run.separate_eval = True
        match, _ = timed(run.evaluate)
        draw, _ = timed(lambda: COCOevalAccumulate(run._paramsEval, run._evalImgs_cpp))
        print(f"| faster-coco-eval | {match:.3f} | cannot be read | {1000 * draw:.1f} |", flush=True)
    with contextlib.suppress(ImportError):
        import hotcoco

        hot = hotcoco.COCO(str(annotations))
        quick = hotcoco.COCOeval(hot, hot.load_res(records_for(results, "segm")), "segm")
        match, _ = timed(quick.evaluate)
        handing, _ = timed(lambda: [np.asarray(one["dtMatches"]) for one in quick.eval_imgs if one])
        draw, _ = timed(quick.accumulate)
        print(f"| hotcoco | {match:.3f} | {handing:.3f} | {1000 * draw:.1f} |", flush=True)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Processor time of one call, s, and what it returned."""
    started = time.process_time()
    found = work()
    return time.process_time() - started, found


def evaluators(kind: str) -> dict[str, Run]:
    found: dict[str, Run] = {"crispmask": lambda *given: average_precision(*given)["AP"]}
    with contextlib.suppress(ImportError):
        if kind != "boundary":
            found["pycocotools"] = _pycocotools()
    with contextlib.suppress(ImportError):
        found["faster-coco-eval"] = _faster_coco_eval()
    with contextlib.suppress(ImportError):
        if kind != "boundary":  # which it does not have
            found["hotcoco"] = _hotcoco()
    return found


def records_for(results: Path, kind: str) -> list[dict]:
    """Without boxes where masks are compared, so that a detection's size is that of its mask."""
    records = json.loads(results.read_bytes())
    return records if kind == "bbox" else [{k: v for k, v in record.items() if k != "bbox"} for record in records]


def _pycocotools() -> Run:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def run(annotations: Path, results: Path, kind: str) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(annotations))
            evaluation = COCOeval(truth, truth.loadRes(records_for(results, kind)), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return float(evaluation.stats[0])

    return run


def _faster_coco_eval() -> Run:
    from faster_coco_eval import COCO, COCOeval_faster

    def run(annotations: Path, results: Path, kind: str) -> float:
        truth = COCO(str(annotations))
        evaluation = COCOeval_faster(truth, truth.loadRes(records_for(results, kind)), kind)
        evaluation.run()
        return float(evaluation.stats[0])

    return run


def _hotcoco() -> Run:
    import hotcoco

    def run(annotations: Path, results: Path, kind: str) -> float:
        truth = hotcoco.COCO(str(annotations))
        evaluation = hotcoco.COCOeval(truth, truth.load_res(records_for(results, kind)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.summarize()
        return float(evaluation.stats[0])

    return run


def made_results(annotations: Path, path: Path, copies: int = 8) -> Path:
    dataset, random, records = CocoDataset.from_file(annotations), np.random.default_rng(0), []
    for image in dataset.images.values():
        for annotation in dataset.annotations[image.id]:
            if annotation["iscrowd"]:
                continue
            mask = segmentation_to_mask(annotation["segmentation"], *image.size)
            reach = max(1, round(0.08 * math.sqrt(mask.sum())))
            for _ in range(copies):
                moved = np.roll(mask, random.integers(-reach, reach + 1, 2), (0, 1))
                ys, xs = np.nonzero(moved)
                if len(ys):
                    sides = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
                    records.append(
                        {
                            "image_id": image.id,
                            "category_id": annotation["category_id"],
                            "score": round(float(random.random()), 3),
                            "bbox": [float(side) for side in sides],
                            "segmentation": mask_to_rle(moved),
                        }
                    )
    write_results(path, records)
    return path


if __name__ == "__main__":
    main()
