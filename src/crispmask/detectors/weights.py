"""torchvision's Mask R-CNN weights: where they are, fetched once into torch's cache, checked by their hash.

The files keep the names and the place that torchvision gives them, so that a copy that torchvision has fetched is used
and the other way round. Nothing here needs torch, so that the weights can be listed without it.

The download is not left to pooch: it checks whole hashes only, while torchvision publishes the first eight digits; it
has no limit on the size of what a server sends; and it would add requests and its four dependencies to every
installation. torch's own download sets no timeout and does not check what is in the cache.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crispmask.errors import ModelError
from crispmask.files import checksum, replacing

MIRROR = "CRISPMASK_MODELS_URL"
"""Environment variable: the address of a folder that holds the files, in the place of torchvision's own."""

TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20

Progress = Callable[[int, int | None], None]
"""Called with the bytes fetched so far, and with all of them where the server says how many."""


@dataclass(frozen=True)
class Weights:
    """A file of weights, trained on COCO.

    Attributes:
        name: of the detector.
        url: where torchvision keeps it.
        mebibytes: size of the file, 2^20 bytes, rounded to three digits, as torchvision states it.
        mask_ap: on COCO val2017 as torchvision states it, in percent.
    """

    name: str
    url: str
    mebibytes: float
    mask_ap: float

    @property
    def file_name(self) -> str:
        """``NAME-HASH.pth``."""
        return self.url.rpartition("/")[2]

    @property
    def hash_prefix(self) -> str:
        """What the file's SHA-256 starts with, in hex."""
        return Path(self.file_name).stem.rpartition("-")[2]

    @property
    def megabytes(self) -> float:
        """Size of the file, 10^6 bytes."""
        return self.mebibytes * 2**20 / 1e6

    @property
    def max_bytes(self) -> int:
        """Bytes that the file cannot exceed: its size, which is known to a thousandth of a mebibyte."""
        return round((self.mebibytes + 0.001) * 2**20)


_SOURCE = "https://download.pytorch.org/models"

WEIGHTS = {
    weights.name: weights
    for weights in (
        Weights("maskrcnn_resnet50_fpn", f"{_SOURCE}/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", 169.84, 34.6),
        Weights("maskrcnn_resnet50_fpn_v2", f"{_SOURCE}/maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", 177.219, 41.8),
    )
}
"""The files that can be fetched, by the detector's name; the figures are those of torchvision's own table."""

NAMES = tuple(WEIGHTS)
COCO_CLASSES = 80
"""How many classes they find."""

LICENCE = "BSD-3-Clause"
"""torchvision's own."""


def weights_of(name: str) -> Weights:
    """The weights of one of `NAMES`.

    Raises:
        ModelError: another name.
    """
    if name not in WEIGHTS:
        raise ModelError(f"there is no model {name!r} to fetch: give one of {', '.join(NAMES)}")
    return WEIGHTS[name]


def cached_path(weights: Weights) -> Path:
    """Where torch keeps the file (``TORCH_HOME`` moves it), whether it is there or not."""
    torch = sys.modules.get("torch")
    if torch is not None:  # which may have been told another folder
        return Path(torch.hub.get_dir()) / "checkpoints" / weights.file_name
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", str(Path(cache, "torch")))
    return Path(home).expanduser() / "hub" / "checkpoints" / weights.file_name


def local_weights(name: str, on_progress: Progress | None = None) -> Path:
    """The file of one of `NAMES`, from the cache where it is there, else fetched.

    Raises:
        ModelError: it cannot be fetched, or the cached file is damaged.
    """
    weights = weights_of(name)
    path = cached_path(weights)
    if not path.is_file():
        return pull(name, on_progress=on_progress)
    if not checksum(path).startswith(weights.hash_prefix):
        raise ModelError(f"{path} is damaged: run crispmask models pull {name} to fetch it again")
    return path


def pull(name: str, source: str | Path | None = None, on_progress: Progress | None = None) -> Path:
    """Put the weights of one of `NAMES` into torch's cache; a sound file that is there already stays.

    Args:
        name: of the detector.
        source: a local file, or a folder or http(s) address that holds the file under its own name. By default the
            address in the environment variable `MIRROR`, or torchvision's.
        on_progress: see `Progress`.

    Returns:
        The file's path in the cache.

    Raises:
        ModelError: no network, no such file, or other content than the hash says; nothing is left behind then.
    """
    weights = weights_of(name)
    path = cached_path(weights)
    if path.is_file() and checksum(path).startswith(weights.hash_prefix):
        return path
    with replacing(path) as partial:
        origin = _fetch(weights, source, partial, on_progress)
        found = checksum(partial)
        if not found.startswith(weights.hash_prefix):
            raise ModelError(
                f"{origin} is cut short, or not the weights of {name}: its SHA-256 starts with {found[:8]}, "
                f"expected {weights.hash_prefix}"
            )
    return path


def _fetch(weights: Weights, source: str | Path | None, target: Path, on_progress: Progress | None) -> str:
    """Copy or download to `target`; gives the file or address that it came from."""
    import http.client
    import urllib.error

    chosen = str(source or os.environ.get(MIRROR) or weights.url)
    if "://" not in chosen:
        file = Path(chosen) / weights.file_name if Path(chosen).is_dir() else Path(chosen)
        if not file.is_file():
            raise ModelError(f"there is no file {file}")
        shutil.copyfile(file, target)
        return str(file)
    url = chosen if chosen.endswith(".pth") else f"{chosen.rstrip('/')}/{weights.file_name}"
    try:
        _download(url, target, weights.max_bytes, on_progress)
    except urllib.error.HTTPError as error:
        raise ModelError(f"{url} cannot be fetched: the server answered {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise ModelError(
            f"the weights of {weights.name} are not in {cached_path(weights).parent} and cannot be fetched ({reason}): "
            f"where there is a network get {url}, then run crispmask models pull {weights.name} --from FILE here"
        ) from None
    return url


def _download(url: str, target: Path, max_bytes: int, on_progress: Progress | None) -> None:
    """Write what the address gives to `target`.

    Raises:
        ModelError: more bytes than the file has: the download stops there.
        OSError, ValueError, http.client.HTTPException: the address cannot be read.
    """
    import urllib.request

    request = urllib.request.Request(url, headers={"User-Agent": "crispmask"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, target.open("wb") as file:
        length = answer.headers.get("Content-Length")
        total = int(length) if length else None
        done = 0
        while chunk := answer.read(_CHUNK):
            done += len(chunk)
            if max(done, total or 0) > max_bytes:
                raise ModelError(f"{url} is not the file that was asked for: it has more than {max_bytes} bytes")
            file.write(chunk)
            if on_progress:
                on_progress(done, total)
