"""The labeling interface of a Label Studio project: its images and the tags that draw regions on them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from crispmask.errors import DataError

KINDS = ("brush", "polygon", "rectangle")
"""What a region can be; with ``labels`` behind it, the name of a tag that has its own labels."""


@dataclass(frozen=True)
class Control:
    """A tag that draws regions.

    Attributes:
        name: other parts of the configuration, and the regions, refer to it.
        tag: its kind, in lower case, such as ``brushlabels``.
        images: names of the images that it draws on.
        labels: what it can call a region; None where the tasks say that.
    """

    name: str
    tag: str
    images: Set[str]
    labels: Set[str] | None

    def takes(self, image: str, labels: Set[str]) -> bool:
        """Whether it can draw a region with these labels on an image."""
        return image in self.images and (self.labels is None or labels <= self.labels)


@dataclass(frozen=True)
class Interface:
    """A labeling configuration.

    Attributes:
        images: of each image, the key of the tasks' data that has its address.
        controls: by name, in their order.
    """

    images: Mapping[str, str]
    controls: Mapping[str, Control]

    @classmethod
    def from_xml(cls, text: Any) -> Interface:
        """The interface of a configuration.

        Raises:
            DataError: text that is no such configuration, or one without an image or without a brush or polygon.
        """
        if not isinstance(text, str) or not text.strip():
            raise DataError("the project has no labeling configuration: choose one under Settings, Labeling Interface")
        if "<!DOCTYPE" in text:  # in which entities could be declared that grow without limit
            raise DataError("the labeling configuration declares a document type, which Label Studio's do not")
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise DataError(f"the labeling configuration is not valid XML: {error}") from None
        images: dict[str, str] = {}
        controls: dict[str, Control] = {}
        for element in root.iter():
            name, tag = element.get("name"), element.tag.lower()
            if name and tag == "image" and element.get("value", "").startswith("$"):
                images[name] = element.get("value", "")[1:]
            elif name and (tag in KINDS or tag.removesuffix("labels") in KINDS):
                controls[name] = Control(name, tag, set(element.get("toName", "").split(",")), _labels(element))
        if not images:
            raise DataError('the labeling configuration has no image: <Image name="image" value="$image"/>')
        if not any(c.tag.startswith(("brush", "polygon")) for c in controls.values()):
            raise DataError(
                "the labeling configuration has no tag to draw masks with: add BrushLabels or PolygonLabels"
            )
        return cls(images, controls)

    def for_box(self, box: Control, image: str, labels: Set[str]) -> Control | None:
        """The tag to draw the mask of a box's object with: the first brush, else the first polygon.

        Args:
            box: the tag that drew the box.
            image: name of the image.
            labels: of the box; a tag without labels takes the place of one without.
        """
        suffix = box.tag.removeprefix("rectangle")
        for kind in KINDS[:2]:
            for control in self.controls.values():
                if control.tag == kind + suffix and control.takes(image, labels):
                    return control
        return None


def _labels(element: ElementTree.Element) -> Set[str] | None:
    if element.get("value", "").startswith("$") or not element.tag.lower().endswith("labels"):
        return None
    return {name for label in element.iter("Label") for name in (label.get("alias"), label.get("value")) if name}
