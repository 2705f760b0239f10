"""What Label Studio sends of a task: its photos' addresses, and what was drawn on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crispmask.errors import DataError
from crispmask.integrations.label_studio.interface import Interface


def result_of(task: Mapping[str, Any], own: str) -> list[Any]:
    """The result that is to be refined: of the annotation or draft that was changed last, else of another model.

    Args:
        task: as Label Studio sends it.
        own: version of the predictions that were made here, which are left out.

    Returns:
        Its items; none where nothing was drawn.
    """
    drawn = [found for name in ("annotations", "drafts") for found in _with_result(task, name)]
    kept = [found for found in drawn if not found.get("was_cancelled")]
    if not kept:
        kept = [found for found in _with_result(task, "predictions") if found.get("model_version") != own]
    return max(kept, key=_changed)["result"] if kept else []


def address_of(task: Mapping[str, Any], interface: Interface, image: str) -> str:
    """The address of an image of a task.

    Raises:
        DataError: the task has none.
    """
    data, key = task.get("data"), interface.images[image]
    address = data.get(key) if isinstance(data, Mapping) else None
    if not isinstance(address, str) or not address:
        raise DataError(f"the task's data has no address of an image under {key!r}")
    return address


def _with_result(task: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = task.get(name)
    items = found if isinstance(found, list) else []
    return [item for item in items if isinstance(item, Mapping) and isinstance(item.get("result"), list)]


def _changed(item: Mapping[str, Any]) -> str:
    """When it was changed; Label Studio writes times so that later ones are greater as text."""
    return str(item.get("updated_at") or item.get("created_at") or "")
