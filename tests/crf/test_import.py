"""The package is light to import, and compiles once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import crispmask.crf


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_import_does_not_load_numba() -> None:
    names = "Bilateral, DenseCRF, Gaussian, Kernel, PermutohedralLattice, two_label_marginals"
    done = run(f"import sys; from crispmask.crf import {names}; assert 'numba' not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_every_public_name_resolves() -> None:
    for name in crispmask.crf.__all__:
        assert getattr(crispmask.crf, name) is not None
    assert set(crispmask.crf.__all__) <= set(dir(crispmask.crf))
    with pytest.raises(AttributeError, match="no attribute 'Lattice'"):
        _ = crispmask.crf.Lattice


SMALL = "from crispmask.crf import GaussianFilter as G; G((2, 2), 1).filter([[[1, 2], [3, 4]]])"


def test_machine_code_is_kept_where_numba_cache_dir_says(tmp_path: Path) -> None:
    done = run(SMALL, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*.nbc"))


def test_compiles_without_any_folder_for_the_cache() -> None:
    """As in a container whose file system cannot be written: each process compiles, none fails."""
    blocked = """
import numba, numba.core.caching as caching, crispmask.errors
caching.CacheImpl._locator_classes = []
try:
    numba.njit(cache=True)(crispmask.errors.MissingExtraError.__init__)
except RuntimeError:
    pass
else:
    raise SystemExit("this test does not block the cache")
"""
    done = run(blocked + SMALL)
    assert done.returncode == 0, done.stderr
