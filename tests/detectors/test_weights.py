"""Fetching weights: from a server that is sound, hostile or not there, and from local files."""

from __future__ import annotations

import sys

import pytest

from crispmask.detectors import weights
from crispmask.detectors.weights import (
    COCO_CLASSES,
    MIRROR,
    NAMES,
    WEIGHTS,
    cached_path,
    local_weights,
    pull,
    weights_of,
)
from crispmask.errors import ModelError

NAME = NAMES[0]


@pytest.fixture
def published(publish, torch_home, tmp_path):
    """Its content does not matter for fetching."""
    (tmp_path / "some").write_bytes(b"weights" * 1000)
    return publish(tmp_path / "some")


def left_behind(torch_home):
    return sorted(path.name for path in torch_home.iterdir()) if torch_home.exists() else []


@pytest.mark.parametrize(("name", "prefix"), [(NAMES[0], "bf2d0c1e"), (NAMES[1], "73cbd019")])
def test_the_table_is_torchvision_s(name, prefix):
    models = pytest.importorskip("torchvision.models", reason="extra torch is not installed")
    known, theirs = WEIGHTS[name], models.get_model_weights(name)["COCO_V1"]
    assert (known.name, known.url, known.hash_prefix) == (name, theirs.url, prefix)
    assert known.mebibytes == theirs.meta["_file_size"]
    assert known.mask_ap == theirs.meta["_metrics"]["COCO-val2017"]["mask_map"]


def test_categories_are_torchvision_s():
    pytest.importorskip("torchvision", reason="extra torch is not installed")
    from crispmask.detectors.networks import coco_categories

    found = coco_categories()
    assert len(found) == COCO_CLASSES
    assert (found[1], found[90]) == ("person", "toothbrush")
    assert 12 not in found  # a gap of COCO's ids


def test_the_size_bounds_the_file():
    """torchvision's first file has 178 090 079 bytes."""
    assert 178_090_079 <= WEIGHTS[NAMES[0]].max_bytes < 178_090_079 + 2000


@pytest.mark.parametrize("variables", [{}, {"XDG_CACHE_HOME": "/c"}, {"XDG_CACHE_HOME": "/c", "TORCH_HOME": "~/t"}])
def test_the_cache_is_torch_s(monkeypatch, variables):
    torch = pytest.importorskip("torch", reason="extra torch is not installed")
    for name in ("XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with_torch = cached_path(WEIGHTS[NAME])
    monkeypatch.delitem(sys.modules, "torch")
    assert cached_path(WEIGHTS[NAME]) == with_torch
    assert str(with_torch).startswith(torch.hub.get_dir())


@pytest.mark.parametrize("kind", ["large", "endless"])
def test_a_download_stops_at_the_known_size(server, torch_home, published, kind):
    with pytest.raises(ModelError, match=r"is not the file that was asked for: it has more than \d+ bytes"):
        pull(NAME, f"{server.url}/{kind}/")
    assert left_behind(torch_home) == []
    assert sum(server.sent) < 1 << 25  # of 64 MB: what fits into the buffers on the way


def test_fetched_once(server, torch_home, published):
    seen = []
    path = local_weights(NAME, lambda done, total: seen.append((done, total)))
    assert path == torch_home / published == cached_path(weights_of(NAME))
    assert path.read_bytes() == b"weights" * 1000
    assert seen[-1] == (7000, 7000)
    assert local_weights(NAME) == pull(NAME) == path
    assert server.asked == [f"/{published}"]


def test_a_damaged_copy_is_noticed_and_mended(torch_home, published):
    pull(NAME)
    (torch_home / published).write_bytes(b"weights")
    with pytest.raises(ModelError, match=f"is damaged: run crispmask models pull {NAME}"):
        local_weights(NAME)
    assert pull(NAME).read_bytes() == b"weights" * 1000
    assert left_behind(torch_home) == [published]


@pytest.mark.parametrize("folder", ["", "/", "/any/folder/"])
def test_mirrors(server, torch_home, published, monkeypatch, folder):
    monkeypatch.setenv(MIRROR, server.url + folder)
    pull(NAME)
    assert left_behind(torch_home) == [published]


def test_local_copies(server, torch_home, published, tmp_path):
    for source in (server.folder, server.folder / published):
        pull(NAME, source).unlink()
    assert server.asked == []
    with pytest.raises(ModelError, match="there is no file"):
        pull(NAME, tmp_path / "gone.pth")
    (tmp_path / "other.pth").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"other\.pth is cut short, or not the weights"):
        pull(NAME, tmp_path / "other.pth")
    assert left_behind(torch_home) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{url}/cut/", "is cut short, or not the weights of"),
        ("{url}/nothing.pth", "cannot be fetched: the server answered 404"),
        ("{url}/silent/", "cannot be fetched (timed out)"),
        ("http://127.0.0.1:1/", "cannot be fetched (.*refused.*)"),
        ("http://no.such.host.invalid/", "cannot be fetched"),
        ("http://", "cannot be fetched"),
        ("gopher://127.0.0.1/", "cannot be fetched"),
    ],
)
def test_servers_that_fail(server, torch_home, published, monkeypatch, source, words):
    monkeypatch.setattr(weights, "TIMEOUT", 0.2)
    with pytest.raises(ModelError, match=words.replace("(timed", r"\(timed").replace("out)", r"out\)")) as caught:
        pull(NAME, source.format(url=server.url))
    assert "\n" not in str(caught.value)
    assert left_behind(torch_home) == []


def test_without_network_it_says_what_to_do(server, torch_home, published):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(ModelError, match=rf"{published}, then run crispmask models pull {NAME} --from FILE"):
        local_weights(NAME)


def test_other_names():
    with pytest.raises(ModelError, match="there is no model 'yolo' to fetch: give one of maskrcnn_resnet50_fpn"):
        pull("yolo")
