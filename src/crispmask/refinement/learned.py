"""`LearnedParams`: for each instance the settings that are likely to help it, or the reason to leave its mask alone."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.errors import ParamsError
from crispmask.files import write_bytes, write_text
from crispmask.params import CRFParams, check_limits
from crispmask.refinement.features import FEATURES, instance_features
from crispmask.refinement.network import UnaryNetwork, resized
from crispmask.refinement.rules import Rules
from crispmask.refinement.unary import log_odds

FORMAT = "crispmask-learned-1"
GRID = 112  # cells of the grid on which an instance is looked at where there is no network

WORSE = 0.02  # of IoU and boundary IoU on average
"""A setting made a mask worse where it lost more than this."""

# When the gate closes, the first of these that holds is the reason it gives.
SURE_CHANGE = 0.03  # the network would change less than this share of the mask
LOW_CONTRAST = 12.0  # CIELAB units across the edge
SMALL = 4.0  # log2 of the object's size in pixels


@dataclass(frozen=True)
class Setting:
    """One way to refine a mask.

    Attributes:
        name: what it is called in reports.
        params: of the CRF; with no iterations, the unary alone decides.
        network: whether the unary is the network's rather than the mask's own probabilities.
        temperature: what the network's log-odds are divided by.
    """

    name: str
    params: CRFParams
    network: bool = False
    temperature: float = 1.0


@dataclass(frozen=True)
class Decision:
    """What is done with an instance, and why.

    Attributes:
        setting: the chosen one; None where the mask is left alone.
        reason: in a few words.
        gain: by how much the mask is expected to get better: the mean of IoU and boundary IoU, as a fraction.
        odds: float32 (h, w), log-odds of the unary over the region; None where the mask is left alone.
    """

    setting: Setting | None
    reason: str
    gain: float
    odds: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, eq=False)
class Observation:
    """An instance as the rules see it.

    Attributes:
        features: float32 (F,), of `crispmask.refinement.features.FEATURES`.
        probabilities: float32 (h, w), the mask's over the region.
        odds: float32 (h, w), the network's log-odds; None where there is no network.
    """

    features: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    odds: NDArray[np.float32] | None

    def unary(self, setting: Setting) -> NDArray[np.float32]:
        """Log-odds (h, w) from which a setting starts."""
        if not setting.network:
            return log_odds(self.probabilities, setting.params.confidence)
        assert self.odds is not None
        return self.odds / np.float32(setting.temperature)


@dataclass(frozen=True, eq=False)
class LearnedParams:
    """Parameters as functions of the instance: `crispmask learn` writes them, `refine` takes them like `CRFParams`.

    Attributes:
        settings: what can be chosen.
        rules: the gain to expect of each setting.
        margin: the mask is left alone where no setting promises more than this.
        risks: the chance of each setting to make the mask worse by more than `WORSE`; None where they are not known.
        max_risk: settings with a larger chance are not used.
        network: the unary network's ONNX file; None where no setting needs it.
        context, context_min: margin around the box that is refined, as in `CRFParams`; all settings share it.
        about: how they were learnt, for the reader of the file.

    Raises:
        ParamsError: settings and rules that do not fit each other.
        ModelError: a network that cannot be loaded, when it is first used.
    """

    settings: tuple[Setting, ...]
    rules: Rules = field(repr=False)
    margin: float = 0.0
    risks: Rules | None = field(default=None, repr=False)
    max_risk: float = 1.0
    network: bytes | None = field(default=None, repr=False)
    context: float = 0.2
    context_min: int = 8
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.settings or len(self.settings) != self.rules.outputs:
            raise ParamsError(f"there are {len(self.settings)} settings and rules for {self.rules.outputs}")
        if self.network is None and any(setting.network for setting in self.settings):
            raise ParamsError("a setting needs the unary network, and there is none")
        if self.risks is not None and self.risks.outputs != len(self.settings):
            raise ParamsError(f"there are {len(self.settings)} settings and risks of {self.risks.outputs}")
        limits = {"margin": (0, 1), "max_risk": (0, 1), "context": (0, 2), "context_min": (0, 1000)}
        check_limits(self, limits)

    @cached_property
    def _session(self) -> UnaryNetwork | None:
        return None if self.network is None else UnaryNetwork(self.network)

    def __getstate__(self) -> dict[str, Any]:  # a session cannot travel to another process
        return {key: value for key, value in self.__dict__.items() if key != "_session"}

    def observe(
        self,
        image: NDArray[np.uint8],
        probabilities: NDArray[np.float32],
        *,
        scale: float,
        score: float,
        binary: bool,
    ) -> Observation:
        """Look at one instance: what the network makes of it, and its features; arguments as for `decide`."""
        if self._session is None:
            small = Image.fromarray(image).resize((GRID, GRID), Image.Resampling.BILINEAR)
            mask = np.clip(resized(probabilities, (GRID, GRID)), 0, 1)
            odds, better, view = None, None, np.asarray(small)
        else:
            odds, view, mask, better = self._session(image, probabilities)
        features = instance_features(view, mask, better, scale=scale, score=score, binary=binary)
        return Observation(features, probabilities, odds)

    def decide(
        self,
        image: NDArray[np.uint8],
        probabilities: NDArray[np.float32],
        *,
        scale: float,
        score: float,
        category: int,
        binary: bool,
    ) -> Decision:
        """Choose for one instance.

        Args:
            image: uint8 (h, w, 3) RGB, the instance's region.
            probabilities: float32 (h, w) in [0, 1], its mask there, softened where it was binary.
            scale: square root of its box's area, pixels.
            score, category: the detector's.
            binary: whether the mask came without probabilities.
        """
        seen = self.observe(image, probabilities, scale=scale, score=score, binary=binary)
        gains = self.rules.predict(seen.features[None], np.array([category]))[0]
        if self.risks is not None:
            risks = self.risks.predict(seen.features[None], np.array([category]))[0]
            gains = np.where(risks < self.max_risk, gains, np.minimum(gains, 0))
        best = int(np.argmax(gains))
        setting, gain = self.settings[best], float(gains[best])
        if not gain > self.margin:
            return Decision(None, why_not(seen.features, self.network is not None), gain)
        return Decision(setting, setting.name, gain, seen.unary(setting))

    def with_overrides(self, values: Mapping[str, Any], source: str = "parameters") -> LearnedParams:
        """The same with some fields of `CRFParams` set for all instances."""
        if not values:
            return self
        own = {key: values[key] for key in ("context", "context_min") if key in values}
        settings = tuple(
            replace(s, params=CRFParams.from_dict({**s.params.as_dict(), **values}, source)) for s in self.settings
        )
        return replace(self, settings=settings, **own)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of everything that decides the masks, in hex."""
        digest = hashlib.sha256(self._decisive().encode())
        digest.update(self.network or b"")
        return digest.hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """What identifies them in the provenance of a run."""
        return {"learned": self.checksum}

    def _decisive(self) -> str:
        lines = [
            f"format = {json.dumps(FORMAT)}",
            f"margin = {self.margin!r}",
            f"max_risk = {self.max_risk!r}",
            f"context = {self.context!r}",
            f"context_min = {self.context_min!r}",
        ]
        if self.network is not None:
            lines += ['network = "unary.onnx"', f'network_sha256 = "{hashlib.sha256(self.network).hexdigest()}"']
        default = CRFParams().as_dict()
        for setting in self.settings:
            lines += ["", "[[settings]]", f"name = {json.dumps(setting.name)}"]
            lines += [f"network = {json.dumps(setting.network)}", f"temperature = {setting.temperature!r}"]
            values = setting.params.as_dict()
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if value != default[key]]
        tables = [self.rules.to_toml()] + ([] if self.risks is None else [self.risks.to_toml("risks")])
        return "\n".join([*lines, "", *tables])

    def save(self, folder: Path) -> Path:
        """Write ``params.toml`` and, where there is one, the network ``unary.onnx`` beside it; returns the former."""
        folder = Path(folder)
        if self.network is not None:
            write_bytes(folder / "unary.onnx", self.network)
        about = "".join(f"# {key}: {value}\n" for key, value in self.about.items())
        write_text(folder / "params.toml", about + self._decisive())
        return folder / "params.toml"

    @classmethod
    def from_toml(cls, path: str | Path) -> LearnedParams:
        """Read what `save` wrote.

        Raises:
            ParamsError: a file that is missing or damaged, or that lacks its network.
        """
        path = Path(path)
        try:
            return cls.from_dict(tomllib.loads(path.read_text(encoding="utf-8")), path)
        except OSError as error:
            raise ParamsError(f"cannot read the parameter file {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ParamsError(f"{path} is not valid TOML: {error}") from None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: Path) -> LearnedParams:
        """From the contents of the file at `path`, beside which the network lies."""
        values = dict(values)
        try:
            if values.pop("format") != FORMAT:
                raise ValueError("another format")
            settings = tuple(_setting(dict(entry), str(path)) for entry in values.pop("settings"))
            rules = Rules.from_dict(values.pop("rules"))
            risks = Rules.from_dict(values.pop("risks")) if "risks" in values else None
            if {rules.features, FEATURES if risks is None else risks.features} != {FEATURES}:
                raise ValueError("rules of other features")
            name, sha256 = values.pop("network", None), values.pop("network_sha256", None)
            network = None if name is None else _network(path, str(name), str(sha256))
            return cls(settings, rules, risks=risks, network=network, **values)
        except ParamsError as error:
            raise ParamsError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ParamsError(
                f"{path} is a damaged file of learnt parameters ({type(error).__name__}: {error}): "
                "make it anew with crispmask learn"
            ) from None


def why_not(features: NDArray[np.float32], network: bool) -> str:
    """The reason to leave a mask alone, from its features, in the words of the summary."""
    value = dict(zip(FEATURES, (float(f) for f in features), strict=True))
    if network and value["change"] < SURE_CHANGE:
        return "already sure"
    if value["size"] < SMALL:
        return "too small"
    if value["contrast"] < LOW_CONTRAST:
        return "low contrast"
    return "no gain expected"


def _setting(entry: dict[str, Any], source: str) -> Setting:
    name, network = str(entry.pop("name")), entry.pop("network")
    temperature = float(entry.pop("temperature"))
    if not isinstance(network, bool) or not 0 < temperature < 1e6:
        raise ValueError(f"setting {name!r}")
    return Setting(name, CRFParams.from_dict(entry, source), network, temperature)


def _network(path: Path, name: str, sha256: str) -> bytes:
    file = path.parent / name
    if Path(name).name != name or not file.is_file():
        raise ParamsError(f"{path} needs the network {name!r} beside it: keep the two files together")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ParamsError(f"{file} is damaged, or belongs to other parameters than {path}")
    return content
