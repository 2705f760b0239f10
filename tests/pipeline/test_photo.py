from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from crispmask.errors import ParamsError
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.pipeline import Settings, process, write_picture
from crispmask.refinement import refine


@pytest.fixture
def image() -> np.ndarray:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:60, :80]
    disc = (y - 30) ** 2 + (x - 40) ** 2 < 15**2
    return (rng.integers(0, 60, (60, 80, 3)) + 150 * disc[..., None]).astype(np.uint8)


@pytest.mark.parametrize(("score", "expected"), [(0.0, [1, 7]), (0.6, [1, 7]), (0.61, [1]), (0.95, [])])
def test_score_chooses(image, blob_detector, score, expected):
    before, after = process(image, blob_detector(), Settings(score=score))
    assert before.category_ids.tolist() == after.category_ids.tolist() == expected


def test_refines_as_refine_does(image, blob_detector):
    params = CRFParams(theta_beta=20.0, colour="rgb")
    detector = blob_detector()
    before, after = process(image, detector, Settings(params=params, score=0), threads=1)
    expected = refine(image, detector(image), params)
    assert (before.masks() == detector(image).masks()).all()
    assert (after.masks() == expected.masks()).all()
    assert (after.masks() != before.masks()).any()


def test_joint_is_passed_on(image, blob_detector):
    settings = Settings(score=0, joint=True)
    _, after = process(image, blob_detector(), settings)
    assert (after.masks() == refine(image, blob_detector()(image), joint=True).masks()).all()


def test_without_refinement_masks_stay(image, blob_detector):
    before, after = process(image, blob_detector(), Settings(refine=False, score=0))
    assert after is before


def test_nothing_found(image):
    before, after = process(image, lambda image: Instances.empty(image.shape[:2]))
    assert len(before) == len(after) == 0


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_score_out_of_range(score):
    with pytest.raises(ParamsError, match="score must be"):
        Settings(score=score)


@pytest.mark.parametrize(("name", "kind"), [("p.png", "PNG"), ("p.jpg", "JPEG")])
def test_picture(tmp_path, image, blob_detector, name, kind):
    before, after = process(image, blob_detector())
    write_picture(tmp_path / "new" / name, image, before, after)
    with Image.open(tmp_path / "new" / name) as picture:
        assert picture.format == kind
        assert picture.width > 2 * 80
    assert [p.name for p in (tmp_path / "new").iterdir()] == [name]


@pytest.mark.parametrize("joint", [False, True])
def test_prepare_compiles_what_process_needs(joint):
    """After it no kernel is compiled or loaded any more; in a process of its own, where none is yet."""
    code = f"""
        import gc
        import numpy as np
        from numba.core.dispatcher import Dispatcher
        from crispmask.instances import Instances
        from crispmask.pipeline import Settings, prepare, process
        settings = Settings(joint={joint})
        prepare(settings)
        masks = np.zeros((3, 60, 80), bool)
        masks[0, 10:40, 10:40] = masks[1, 20:50, 30:60] = masks[2, 5:20, 50:70] = True
        image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        def kernels():
            found = [o for o in gc.get_objects() if isinstance(o, Dispatcher)]
            return sorted((o.py_func.__qualname__, str(key)) for o in found for key in o.overloads)
        before = kernels()
        process(image, lambda image: Instances.from_masks(masks), settings)
        assert before and kernels() == before, set(kernels()) - set(before)
    """
    lines = "\n".join(line[8:] for line in code.splitlines())
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
