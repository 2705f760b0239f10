"""Fetching weights: from a server that is sound, hostile or not there, and from local files."""

from __future__ import annotations

import pytest

from crispmask.detectors import weights
from crispmask.detectors.weights import MIRROR, NAMES, cached_path, local_weights, pull, weights_of
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
def test_what_torchvision_says(name, prefix):
    pytest.importorskip("torchvision", reason="extra torch is not installed")
    known = weights_of(name)
    assert known.hash_prefix == prefix
    assert len(known.categories) == 80
    assert (known.categories[1], known.categories[90]) == ("person", "toothbrush")
    assert 12 not in known.categories  # a gap of COCO's ids


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
