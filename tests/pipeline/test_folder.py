from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import crispmask
from crispmask.coco import CocoDataset, read_results, results_to_instances
from crispmask.errors import DataError, ImageError, ModelError, ParamsError
from crispmask.evaluation import average_precision
from crispmask.files import checksum
from crispmask.image import read_image
from crispmask.params import CRFParams
from crispmask.pipeline import CutoutStyle, Settings, segment_folder, segment_image

NAMES = ["a.jpg", "b.png", "d.webp", "e.png", "sub/a.jpg", "sub/deep/c.png"]
# One iteration: these tests are about files.
SETTINGS = Settings(score=0.5, params=CRFParams(iterations=1))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def truth(path: Path, photos: Path, names: list[str], categories: dict[int, str], **changes) -> Path:
    images = []
    for k, name in enumerate(names):
        height, width = read_image(photos / name).shape[:2]
        images.append({"id": 100 - k, "file_name": name, "height": height, "width": width, **changes})
    known = [{"id": key, "name": name} for key, name in categories.items()]
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": known}))
    return path


def test_what_is_written(photos, tmp_path, blob_detector):
    steps = []
    report = segment_folder([photos], tmp_path / "out", blob_detector(), SETTINGS, on_image=steps.append)
    assert (report.images, report.resumed, report.objects, report.failures) == (6, 0, 12, ())
    pictures = ["a.jpg", "b.jpg", "d.jpg", "e.jpg", "sub/a.jpg", "sub/deep/c.jpg"]
    assert sorted(contents(tmp_path / "out")) == sorted(
        ["images.json", "provenance.json", "results.json", "results_before.json", *(f"pictures/{p}" for p in pictures)]
    )
    assert [(s.done, s.total, s.path and s.path.name) for s in steps] == [
        (0, 6, None),
        *((k, 6, Path(name).name) for k, name in enumerate(NAMES, start=1)),
    ]

    images = CocoDataset.from_file(tmp_path / "out" / "images.json")
    assert [(key, image.file_name) for key, image in images.images.items()] == list(enumerate(NAMES, start=1))
    assert dict(images.categories) == {1: "person", 7: "train"}
    for file, side in (("results_before.json", "before"), ("results.json", "after")):
        results = read_results(tmp_path / "out" / file)
        for key, image in images.images.items():
            found = results_to_instances([r for r in results if r["image_id"] == key], *image.size)
            result = segment_image(read_image(photos / image.file_name), blob_detector(), SETTINGS)
            expected = getattr(result, side)
            assert (found.masks() == expected.masks()).all()
            assert found.category_ids.tolist() == [1, 7]


def test_without_pictures_and_refinement(photos, tmp_path, blob_detector):
    segment_folder([photos], tmp_path / "out", blob_detector(), Settings(refine=False), pictures=False)
    assert sorted(contents(tmp_path / "out")) == [
        "images.json",
        "provenance.json",
        "results.json",
        "results_before.json",
    ]
    written = contents(tmp_path / "out")
    assert written["results.json"] == written["results_before.json"]


def test_ids_of_an_annotation_file(photos, tmp_path, blob_detector):
    gt = truth(tmp_path / "gt.json", photos, NAMES, {3: "person", 1: "dog"})
    report = segment_folder([photos], tmp_path / "out", blob_detector(), SETTINGS, annotations=gt)
    results = read_results(tmp_path / "out" / "results.json")
    assert {r["image_id"] for r in results} == {95, 96, 97, 98, 99, 100}
    # Categories go by name: the detector's person, 1, is the data set's 3; a train it does not know.
    assert {r["category_id"] for r in results} == {3}
    assert report.left_out == ("train",)
    assert average_precision(gt, tmp_path / "out" / "results.json")  # is accepted


def test_annotations_without_the_detector_s_categories(photos, tmp_path, blob_detector):
    gt = truth(tmp_path / "gt.json", photos, NAMES, {3: "cat"})
    with pytest.raises(DataError, match=r"none of the detector's categories \(person, train\)"):
        segment_folder([photos], tmp_path / "out", blob_detector(), SETTINGS, annotations=gt)
    assert not (tmp_path / "out").exists()


def test_a_data_set_and_its_folder(photos, tmp_path, blob_detector):
    """Photos that the data set does not name are left alone, images that are not there are counted."""
    gt = truth(tmp_path / "gt.json", photos, NAMES[:-1], {1: "person"})
    (photos / "a.jpg").unlink()
    report = segment_folder([photos], tmp_path / "out", blob_detector(), SETTINGS, annotations=gt)
    assert (report.images, report.unnamed, report.missing, report.failures) == (4, 1, 1, ())
    images = CocoDataset.from_file(tmp_path / "out" / "images.json").images
    assert {key: image.file_name for key, image in images.items()} == {100 - k: NAMES[k] for k in (1, 2, 3, 4)}


def test_annotations_that_do_not_name_a_photo(photos, tmp_path, blob_detector):
    gt = truth(tmp_path / "gt.json", photos, NAMES[:-1], {1: "person"})
    detector = blob_detector()
    with pytest.raises(DataError, match=r"has no image 'c\.png'"):
        segment_folder([photos / "sub" / "deep"], tmp_path / "out", detector, SETTINGS, annotations=gt)
    with pytest.raises(DataError, match=r"has no image 'c\.png'"):
        segment_folder(
            [photos, photos / "sub" / "deep" / "c.png"], tmp_path / "out", detector, SETTINGS, annotations=gt
        )
    assert detector.calls == 0
    assert not (tmp_path / "out").exists()


def test_provenance(photos, tmp_path, blob_detector):
    gt = truth(tmp_path / "gt.json", photos, NAMES, {1: "person"})
    segment_folder([photos], tmp_path / "out", blob_detector(), SETTINGS, annotations=gt, pictures=False)
    found = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert found["detector"] == {"name": "blob", "sha256": "0" * 64}
    assert found["annotations"] == {"file": "gt.json", "sha256": checksum(gt)}
    assert found["sources"] == [str(photos)]
    assert found["settings"] == SETTINGS.as_dict()
    assert found["images"] == {"segmented": 6, "unusable": 0}
    assert found["outputs"]["results.json"] == checksum(tmp_path / "out" / "results.json")


def test_annotations_of_another_size(photos, tmp_path, blob_detector):
    gt = truth(tmp_path / "gt.json", photos, NAMES, {1: "person"}, width=999)
    report = segment_folder([photos], tmp_path / "out", blob_detector(), SETTINGS, annotations=gt)
    assert report.images == 0
    assert "56x44 pixels (width x height), the annotation file says 999x44" in report.failures[0].reason
    assert not (tmp_path / "out").exists()


def test_unreadable_photos_do_not_stop_the_others(photos, tmp_path, blob_detector):
    content = (photos / "b.png").read_bytes()
    (photos / "b.png").write_bytes(content[: len(content) // 2])
    (photos / "e.png").write_bytes(b"")
    report = segment_folder([photos], tmp_path / "out", blob_detector(), SETTINGS)
    assert [failure.path.name for failure in report.failures] == ["b.png", "e.png"]
    assert report.images == 4
    images = CocoDataset.from_file(tmp_path / "out" / "images.json").images
    # The numbers of the others do not depend on what can be read.
    assert {key: image.file_name for key, image in images.items()} == {
        k: name for k, name in enumerate(NAMES, start=1) if name not in ("b.png", "e.png")
    }
    assert "pictures/b.jpg" not in contents(tmp_path / "out")


def test_nothing_readable_writes_nothing(tmp_path, blob_detector):
    (tmp_path / "x.jpg").write_bytes(b"not a photo")
    report = segment_folder([tmp_path / "x.jpg"], tmp_path / "out", blob_detector(), SETTINGS)
    assert report.images == 0
    assert len(report.failures) == 1
    assert not (tmp_path / "out").exists()


def test_pictures_of_an_earlier_run_are_not_photos(photos, blob_detector):
    first = segment_folder([photos], photos / "out", blob_detector(), SETTINGS)
    before = contents(photos / "out")
    second = segment_folder([photos], photos / "out", blob_detector(), SETTINGS)
    assert second == first
    assert contents(photos / "out") == before
    with pytest.raises(ImageError, match="no image but the pictures"):
        segment_folder([photos / "out"], photos / "out", blob_detector(), SETTINGS)


def test_output_that_is_a_file(photos, tmp_path, blob_detector):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(DataError, match="is a file"):
        segment_folder([photos], tmp_path / "out", blob_detector(), SETTINGS)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_detector_that_fails_ends_the_run(photos, tmp_path, blob_detector):
    def fail(k: int) -> None:
        raise ModelError("the model is broken")

    with pytest.raises(ModelError, match="broken"):
        segment_folder([photos], tmp_path / "out", blob_detector(fail), SETTINGS)


def interrupt_at(number: int):
    def raise_at(k: int) -> None:
        if k == number:
            raise KeyboardInterrupt

    return raise_at


@pytest.fixture
def undisturbed(photos, tmp_path, blob_detector) -> dict[str, bytes]:
    segment_folder([photos], tmp_path / "undisturbed", blob_detector(), SETTINGS)
    return contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("at", [1, 2, 4, 6])
def test_interrupted_and_continued_equals_undisturbed(photos, tmp_path, blob_detector, undisturbed, at):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        segment_folder([photos], out, blob_detector(interrupt_at(at)), SETTINGS)
    assert not (out / "results.json").exists()
    detector, steps = blob_detector(), []
    report = segment_folder([photos], out, detector, SETTINGS, on_image=steps.append)
    assert (report.images, report.resumed, report.objects) == (6, at - 1, 12)
    assert detector.calls == 6 - (at - 1)
    assert (steps[0].done, steps[0].resumed) == (at - 1, at - 1)
    assert contents(out) == undisturbed


def test_killed_and_continued_equals_undisturbed(photos, tmp_path, blob_detector, undisturbed):
    """The process ends in the middle of a picture: no handler, no flush."""
    code = """
        import importlib.util, os, sys
        from pathlib import Path
        from crispmask.pipeline import output
        spec = importlib.util.spec_from_file_location("fakes", sys.argv[1])
        fakes = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fakes)
        from crispmask.params import CRFParams
        from crispmask.pipeline import Settings, segment_folder
        def save_half(self, path, **options):
            Path(path).write_bytes(b"half")
            os._exit(9)
        def arm(k):
            if k == 4:
                output.Image.Image.save = save_half
        settings = Settings(score=0.5, params=CRFParams(iterations=1))
        segment_folder([sys.argv[2]], sys.argv[3], fakes.BlobDetector(arm), settings)
    """
    out, fakes = tmp_path / "out", Path(__file__).with_name("conftest.py")
    lines = "\n".join(line[8:] for line in code.splitlines())
    done = subprocess.run([sys.executable, "-c", lines, fakes, photos, out], env=os.environ, check=False)
    assert done.returncode == 9
    assert len([p for p in contents(out) if p.endswith(".part")]) == 1
    foreign = out / "downloads" / ".film.part"
    foreign.parent.mkdir()
    foreign.write_bytes(b"not ours")
    report = segment_folder([photos], out, blob_detector(), SETTINGS)
    assert report.resumed == 3
    assert foreign.read_bytes() == b"not ours"
    foreign.unlink()
    assert contents(out) == undisturbed


def test_continuing_with_other_settings_is_refused(photos, tmp_path, blob_detector):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        segment_folder([photos], out, blob_detector(interrupt_at(3)), SETTINGS)
    before = contents(out)
    other = Settings(score=0.5, params=CRFParams(iterations=1, theta_beta=7.0))
    with pytest.raises(ParamsError, match=r"theta_beta was 5\.0, is 7\.0"):
        segment_folder([photos], out, blob_detector(), other)
    strange = blob_detector()
    strange.checksum = "1" * 64
    with pytest.raises(ParamsError, match="another detector"):
        segment_folder([photos], out, strange, SETTINGS)
    assert contents(out) == before
    assert segment_folder([photos], out, blob_detector(), other, restart=True).resumed == 0
    assert "unfinished.jsonl" not in contents(out)


def test_a_photo_that_changed_meanwhile_is_done_again(photos, tmp_path, blob_detector):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        segment_folder([photos], out, blob_detector(interrupt_at(4)), SETTINGS)
    image = np.full((30, 30, 3), 80, np.uint8)
    Image.fromarray(image).save(photos / "b.png")
    (photos / "a.jpg").unlink()
    report = segment_folder([photos], out, blob_detector(), SETTINGS)
    assert (report.images, report.resumed) == (5, 1)
    segment_folder([photos], tmp_path / "fresh", blob_detector(), SETTINGS)
    for file in ("results.json", "results_before.json", "images.json"):
        assert (out / file).read_bytes() == (tmp_path / "fresh" / file).read_bytes()


def test_other_sources_do_not_continue_it(photos, tmp_path, blob_detector):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        segment_folder([photos], out, blob_detector(interrupt_at(3)), SETTINGS)
    with pytest.raises(ParamsError, match="sources was"):
        segment_folder([photos / "a.jpg"], out, blob_detector(), SETTINGS)
    segment_folder([photos / "a.jpg"], out, blob_detector(), SETTINGS, restart=True)
    segment_folder([photos / "a.jpg"], tmp_path / "fresh", blob_detector(), SETTINGS)
    assert contents(out) == contents(tmp_path / "fresh")  # the pictures of the dropped run are gone too


def test_a_damaged_avif_does_not_stop_the_others(photos, tmp_path, blob_detector):
    Image.open(photos / "a.jpg").save(photos / "x.avif")
    content = bytearray((photos / "x.avif").read_bytes())
    for place in range(content.index(b"mdat") + 4, len(content)):
        content[place] ^= 0x5A
    (photos / "x.avif").write_bytes(content)
    report = segment_folder([photos], tmp_path / "out", blob_detector(), SETTINGS, pictures=False)
    assert report.images == 6
    assert ["x.avif is damaged" in failure.reason for failure in report.failures] == [True]


def test_one_image_that_stops_a_batch(photos, tmp_path, blob_detector):
    """The others of its batch are in the results, and the same as one by one."""

    class Batching(blob_detector):
        def __call__(self, image: np.ndarray):
            if image.shape[0] == 48:
                raise DataError("too blue")
            return super().__call__(image)

        def batch(self, images: list[np.ndarray]):
            return [self(image) for image in images]

    one = segment_folder([photos], tmp_path / "one", Batching(), SETTINGS)
    four = segment_folder([photos], tmp_path / "four", Batching(), SETTINGS, batch_size=4)
    assert one.images == four.images == 5
    assert one.failures == four.failures
    assert one.failures[0].reason == "too blue"
    assert contents(tmp_path / "one") == contents(tmp_path / "four")


def test_a_memory_error_is_of_one_image(photos, tmp_path, blob_detector):
    def fail(k: int) -> None:
        if k == 2:
            raise MemoryError

    report = segment_folder([photos], tmp_path / "out", blob_detector(fail), SETTINGS)
    assert report.images == 5
    assert report.failures[0].reason == f"{photos / 'b.png'} does not fit into memory"


def test_an_image_named_by_a_relative_path_must_be_annotated(photos, tmp_path, blob_detector, monkeypatch):
    gt = truth(tmp_path / "gt.json", photos, NAMES[:-1], {1: "person"})
    monkeypatch.chdir(photos)
    with pytest.raises(DataError, match=r"has no image 'c\.png'"):
        segment_folder([".", "sub/deep/c.png"], tmp_path / "out", blob_detector(), SETTINGS, annotations=gt)


def test_progress_within_an_image_with_many_objects(photos, tmp_path, blob_detector, monkeypatch):
    from crispmask.pipeline import folder

    steps = []
    segment_folder([photos], tmp_path / "few", blob_detector(), SETTINGS, on_image=steps.append)
    assert all(step.within is None for step in steps)
    monkeypatch.setattr(folder, "MANY", 0)
    steps.clear()
    segment_folder([photos], tmp_path / "many", blob_detector(), SETTINGS, on_image=steps.append)
    within = [step for step in steps if step.within is not None]
    assert {step.path for step in within} <= set(photos.rglob("*.*"))
    assert within[-1].within[0] == within[-1].within[1] > 0
    assert contents(tmp_path / "few") == contents(tmp_path / "many")


def test_cutouts(photos, tmp_path, blob_detector):
    out = tmp_path / "out"
    segment_folder([photos], out, blob_detector(), SETTINGS, pictures=False, cutouts=CutoutStyle())
    stems = ["a", "b", "d", "e", "sub/a", "sub/deep/c"]
    expected = [f"cutouts/{stem}/{name}.png" for stem in stems for name in ("1-person", "2-train")]
    assert sorted(name for name in contents(out) if name.endswith(".png")) == sorted(expected)
    entries = json.loads((out / "images.json").read_text())["images"]
    assert [name for entry in entries for name in entry["cutouts"]] == expected
    image = read_image(photos / "b.png")
    with Image.open(out / "cutouts/b/1-person.png") as file:
        picture = np.asarray(file)
    result = segment_image(image, blob_detector(), SETTINGS)
    assert (picture == crispmask.cutout(image, result.after[0])[0]).all()

    # One picture of the image's size; the others go, and nothing else.
    (out / "cutouts/mine.png").write_bytes(b"mine")
    style = CutoutStyle(full_size=True, together=True)
    segment_folder([photos], out, blob_detector(), SETTINGS, pictures=False, cutouts=style)
    left = sorted(name for name in contents(out) if name.startswith("cutouts"))
    assert left == sorted([*(f"cutouts/{stem}/all.png" for stem in stems), "cutouts/mine.png"])
    with Image.open(out / "cutouts/b/all.png") as file:
        assert (file.mode, file.size) == ("RGBA", image.shape[1::-1])


def test_cutouts_are_no_sources_and_go_on_after_an_interruption(photos, tmp_path, blob_detector):
    def stop(k: int) -> None:
        if k == 4:
            raise KeyboardInterrupt

    segment_folder([photos], tmp_path / "out", blob_detector(), SETTINGS, cutouts=CutoutStyle())
    with pytest.raises(KeyboardInterrupt):
        segment_folder([photos], photos, blob_detector(stop), SETTINGS, cutouts=CutoutStyle())
    report = segment_folder([photos], photos, blob_detector(), SETTINGS, cutouts=CutoutStyle())
    assert (report.images, report.resumed) == (6, 3)
    once, twice = contents(tmp_path / "out"), contents(photos)
    assert all(twice[name] == once[name] for name in once if name != "provenance.json")
