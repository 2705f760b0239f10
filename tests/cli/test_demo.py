from __future__ import annotations

from PIL import Image

from crispmask.coco import read_results
from crispmask.image import read_image
from crispmask.instances import Instances
from crispmask.samples import sample_images


def test_demo(invoke, detector, tmp_path):
    result = invoke("demo", "-o", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    assert result.stdout.count(": 1 person; refinement moved ") == len(sample_images())
    for name in ("astronaut", "chelsea"):
        path = tmp_path / "demo" / "pictures" / f"{name}.jpg"
        assert str(path) in result.stdout
        with Image.open(path) as picture:
            assert picture.width > 900
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "images",
        "images.json",
        "pictures",
        "provenance.json",
        "results.json",
        "results_before.json",
    ]
    assert invoke("demo", "-o", tmp_path / "demo").exit_code == 0  # again


def test_into_a_folder_of_other_results(invoke, refused, detector, tmp_path):
    demo = tmp_path / "demo"
    assert invoke("segment", sample_images()[0], "-o", demo).exit_code == 0
    assert refused("demo", "-o", demo).endswith("or add --overwrite, which removes them first")
    assert invoke("demo", "-o", demo, "--overwrite").exit_code == 0


def test_what_the_demo_leaves_can_be_refined(invoke, detector, tmp_path):
    demo = tmp_path / "demo"
    invoke("demo", "-o", demo)
    command = ("refine", demo / "results_before.json", "--images", demo / "images", "-o", tmp_path / "again.json")
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    assert read_results(tmp_path / "again.json") == read_results(demo / "results.json")


def test_nothing_found(invoke, detector, tmp_path, monkeypatch):
    monkeypatch.setattr(type(detector), "__call__", lambda self, image: Instances.empty(image.shape[:2]))
    result = invoke("demo", "-o", tmp_path / "demo")
    assert result.exit_code == 0
    assert result.stdout.count(": nothing with a score of 70% or more\n") == len(sample_images())


def test_samples_are_small_images_of_known_origin():
    photos = sample_images()
    assert [photo.stem for photo in photos] == ["astronaut", "camera", "chelsea", "coffee", "grace_hopper"]
    origins = (photos[0].parent / "LICENSES.md").read_text(encoding="utf-8")
    assert sum(photo.stat().st_size for photo in photos) < 400_000
    for photo in photos:
        assert 300 <= min(read_image(photo).shape[:2]) <= max(read_image(photo).shape[:2]) <= 640
        assert f"`{photo.name}`" in origins
