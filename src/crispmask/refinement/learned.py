"""`LearnedParams`: the mask network, the CRF behind it, and the gates that leave right masks alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crispmask.arguments import shown
from crispmask.errors import ParamsError
from crispmask.files import write_bytes, write_text
from crispmask.params import CRFParams, check_limits
from crispmask.refinement.answer import Answer
from crispmask.refinement.features import instance_features
from crispmask.refinement.gate import Gate
from crispmask.refinement.instance import InstanceView
from crispmask.refinement.network import MaskNetwork
from crispmask.refinement.reach import reach_of
from crispmask.refinement.unary import Unary
from crispmask.structured import read_toml

if TYPE_CHECKING:
    from crispmask.refinement.network_on_device import MaskNetworkOnDevice

FORMAT = "crispmask-learned-5"
NETWORK = "network.onnx"

GATED = ("unscored", "all", "none")

_DECISIVE = ("gated", "temperature", "box_passes", "reach")
_GATES = ("binary_gate", "soft_gate")

REACH = 0.0075
"""One pixel for an object of 67 to 200 pixels. On images held out from training, 0.005 and 0.0075 made masks without a
score gain 0.3 points more (of IoU and boundary IoU, as the mean of all kinds); binary ones not with 0.01 and 0.015."""

WORSE = 0.01
"""Refinement made a mask worse where its IoU fell by more than this."""


@dataclass(frozen=True)
class Decision:
    """What was decided for a mask.

    Attributes:
        refined: whether the mask is refined; otherwise it is left alone.
        gain: by how much refinement is expected to raise the mean of its IoU and boundary IoU, as a fraction.
        risk: the chance that refinement lowers its IoU by more than `WORSE`.
        reason: what decided, in a few words.
        reach: by how many pixels refinement may move the outline; None: by any number.
    """

    refined: bool
    gain: float
    risk: float
    reason: str
    reach: float | None = None


_FROM_BOX = Decision(True, 1.0, 0.0, "made from a box")


@dataclass(frozen=True, eq=False)
class LearnedParams:
    """What `crispmask learn` makes and `refine` uses by default.

    Attributes:
        network: the mask network's ONNX file.
        crf: setting of the CRF behind it.
        binary_gate, soft_gate: which masks without and with probabilities are left alone.
        gated: what may be left alone. 'unscored': masks without a score below 1, which a person may have drawn.
            'all': every mask. 'none': no mask.
        temperature: what the network's log-odds are divided by before the CRF.
        box_passes: how often the network runs on an object of which only the box is known.
        reach: how far the outline of a mask moves where the gate lets it be refined near its outline alone, as a share
            of the square root of the mask's area.
        about: how they were learned, for the reader of the file.

    Raises:
        ParamsError: a value that does not fit.
        ModelError: a network that cannot be loaded, when it is first used.
    """

    network: bytes = field(repr=False)
    crf: CRFParams
    binary_gate: Gate
    soft_gate: Gate
    gated: str = "unscored"
    temperature: float = 1.0
    box_passes: int = 3
    reach: float = REACH
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.gated not in GATED:
            raise ParamsError(f"the gate decides for one of {', '.join(GATED)}, not {self.gated!r}")
        check_limits(self, {"temperature": (0.01, 100), "box_passes": (1, 10), "reach": (0, 1)})

    @cached_property
    def mask_network(self) -> MaskNetwork:
        """The network, loaded."""
        return MaskNetwork(self.network)

    def __getstate__(self) -> dict[str, Any]:  # a session cannot travel to another process
        return {key: value for key, value in self.__dict__.items() if key not in ("mask_network", "_on_devices")}

    def answer(self, view: InstanceView) -> Answer:
        """What the network says of an instance."""
        odds = self.mask_network(view.crop.image(view.image), view.prompt, self.passes(view))
        return Answer(view.crop, view.prompt, odds)

    def network_on(self, device: Any) -> MaskNetworkOnDevice:
        """The network on a torch device, loaded."""
        from crispmask.refinement.network_on_device import MaskNetworkOnDevice

        kept: dict[Any, MaskNetworkOnDevice] = self.__dict__.setdefault("_on_devices", {})
        if device not in kept:
            kept[device] = MaskNetworkOnDevice(self.network, device)
        return kept[device]

    def passes(self, view: InstanceView) -> int:
        """How often the network runs on an instance."""
        return self.box_passes if view.from_box else 1

    def unary(self, view: InstanceView, answer: Answer) -> Unary:
        """The unary of an instance for the CRF, from the network's answer."""
        return answer.unary(view.image_size, self.crf, self.temperature)

    def decide(self, view: InstanceView) -> tuple[Unary | None, Decision]:
        """The unary of an instance for the CRF, None where its mask is left alone, and what decided."""
        return self.judge(view, self.answer(view))

    def judge(self, view: InstanceView, answer: Answer) -> tuple[Unary | None, Decision]:
        """`decide` with the network's answer."""
        if view.from_box:
            return self.unary(view, answer), _FROM_BOX
        features = instance_features(view, answer)
        (decision,) = self.decisions([view], features[None], [bool(answer.mask.any())])
        if not decision.refined:
            return None, decision
        unary = self.unary(view, answer)
        return unary if decision.reach is None else unary.within_reach(view.window, decision.reach), decision

    def decisions(
        self, views: Sequence[InstanceView], features: NDArray[np.float32], found: Sequence[bool]
    ) -> list[Decision]:
        """What is decided for instances.

        Args:
            views: N instances.
            features: (N, F), their numbers of `FEATURES`.
            found: of each, whether the network finds an object.
        """
        decided = [_FROM_BOX] * len(views)
        for gate, binary in ((self.binary_gate, True), (self.soft_gate, False)):
            own = [i for i, view in enumerate(views) if not view.from_box and view.binary == binary]
            for i, foreseen in zip(own, gate.rules.predict(features[own]).tolist(), strict=True) if own else ():
                decided[i] = self._decision(views[i], gate, foreseen, found[i])
        return decided

    def _decision(self, view: InstanceView, gate: Gate, foreseen: Sequence[float], found: bool) -> Decision:
        gain, risk = foreseen[:2]
        if not found:
            return Decision(False, gain, risk, "the network finds no object")
        if self.gated == "none":
            return Decision(True, gain, risk, "the gate is off")
        if self.gated == "unscored" and view.predicted:
            return Decision(True, gain, risk, "predicted by a model")
        verdict = gate.verdict(foreseen)
        reach = reach_of(view.window, self.reach) if verdict.near else None
        if reach == 0:
            return Decision(False, gain, risk, "no gain expected")
        return Decision(verdict.refined, verdict.gain, verdict.risk, verdict.reason, reach)

    def with_overrides(self, values: Mapping[str, Any], source: str = "parameters") -> LearnedParams:
        """The same with some fields of the CRF's setting changed, or with another `gated`."""
        values = dict(values)
        gated = str(values.pop("gated", self.gated))
        if not values and gated == self.gated:
            return self
        return replace(self, gated=gated, crf=CRFParams.from_dict({**self.crf.as_dict(), **values}, source))

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of everything that decides the masks, in hex."""
        return hashlib.sha256(self._decisive().encode() + self.network).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """What identifies them in the provenance of a run."""
        return {"learned": self.checksum}

    def _decisive(self) -> str:
        lines = [f"format = {json.dumps(FORMAT)}"]
        lines += [f"{name} = {json.dumps(getattr(self, name))}" for name in _DECISIVE]
        lines += [f"network = {json.dumps(NETWORK)}"]
        lines += [f'network_sha256 = "{hashlib.sha256(self.network).hexdigest()}"', "", "[crf]"]
        default = CRFParams().as_dict()
        lines += [f"{k} = {json.dumps(v)}" for k, v in self.crf.as_dict().items() if v != default[k]]
        return "\n".join([*lines, "", *(getattr(self, name).to_toml(name) for name in _GATES)])

    def save(self, folder: Path) -> Path:
        """Write ``params.toml`` and the network ``network.onnx`` beside it; returns the former."""
        folder = Path(folder)
        write_bytes(folder / NETWORK, self.network)
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
        return cls.from_dict(read_toml(path), path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: Path) -> LearnedParams:
        """From the contents of the file at `path`, beside which the network lies."""
        values = dict(values)
        try:
            if values.pop("format") != FORMAT:
                raise ValueError("another format")
            binary_gate, soft_gate = (Gate.from_dict(values.pop(name)) for name in _GATES)
            network = _network(path, str(values.pop("network")), str(values.pop("network_sha256")))
            crf = CRFParams.from_dict(values.pop("crf"), str(path))
            return cls(network, crf, binary_gate, soft_gate, **values)
        except ParamsError as error:
            raise ParamsError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ParamsError(
                f"{path} is a damaged file of learned parameters ({type(error).__name__}: {error}): "
                "make it anew with crispmask learn"
            ) from None


def _network(path: Path, name: str, sha256: str) -> bytes:
    file = path.parent / name
    try:
        content = file.read_bytes() if Path(name).name == name else None
    except (OSError, ValueError):  # it is not there, or no file can have this name
        content = None
    if content is None:
        raise ParamsError(f"{path} needs the network {shown(name)} beside it: keep the two files together")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ParamsError(f"{file} is damaged, or belongs to other parameters than {path}")
    return content
