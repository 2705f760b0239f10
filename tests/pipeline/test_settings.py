from __future__ import annotations

import subprocess
import sys

import pytest

from crispmask.errors import ParamsError
from crispmask.pipeline import Settings


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_score_out_of_range(score):
    with pytest.raises(ParamsError, match="score must be"):
        Settings(score=score)


@pytest.mark.parametrize("joint", [False, True])
def test_prepare_compiles_what_refining_needs(joint):
    """After it no kernel is compiled or loaded any more; in a process of its own, where none is yet."""
    code = f"""
        import gc
        import numpy as np
        from numba.core.dispatcher import Dispatcher
        from crispmask.instances import Instances
        from crispmask.pipeline import Settings, prepare, segment_image
        settings = Settings(joint={joint})
        prepare(settings)
        masks = np.zeros((3, 60, 80), bool)
        masks[0, 10:40, 10:40] = masks[1, 20:50, 30:60] = masks[2, 5:20, 50:70] = True
        image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        def kernels():
            found = [o for o in gc.get_objects() if isinstance(o, Dispatcher)]
            return sorted((o.py_func.__qualname__, str(key)) for o in found for key in o.overloads)
        before = kernels()
        segment_image(image, lambda image: Instances.from_masks(masks, scores=[0.9] * 3), settings)
        assert before and kernels() == before, set(kernels()) - set(before)
    """
    lines = "\n".join(line[8:] for line in code.splitlines())
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
