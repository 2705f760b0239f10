"""Options made from dataclasses, so that a parameter's name, default and help are written once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from rich.markup import escape

Function = TypeVar("Function", bound=Callable[..., Any])


def options_from(config: type, keyword: str, panel: str) -> Callable[[Function], Function]:
    """Decorate a verb with one option per field of a dataclass.

    The verb gets the options that the user set as one mapping of field names to values. A field's help is its
    metadata's ``help``, or its entry in the ``Attributes:`` section of the class docstring.

    Args:
        config: a dataclass whose fields all have defaults.
        keyword: name of the verb's parameter for the mapping.
        panel: heading above the options in the help.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != keyword]
        made = [_parameter(item, get_type_hints(config)[item.name], config, panel) for item in fields(config)]

        def verb(**arguments: Any) -> Any:
            chosen = {p.name: arguments.pop(p.name) for p in made}
            return function(**arguments, **{keyword: {k: v for k, v in chosen.items() if v is not None}})

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *made)]
        verb.__name__, verb.__doc__ = function.__name__, function.__doc__
        # Typer reads the signature, its older versions also the annotations.
        verb.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        verb.__annotations__ = {p.name: p.annotation for p in parameters}
        return verb  # type: ignore[return-value]

    return decorate


def _parameter(item: Field[Any], kind: Any, config: type, panel: str) -> inspect.Parameter:
    """A keyword-only parameter with Typer's annotation; None, its default, means that the user did not set it."""
    assert item.default is not MISSING
    flag = item.name.replace("_", "-")
    meaning = (item.metadata.get("help") or _attribute_help(config, item.name)).rstrip(".").replace("``", "")
    default = str(item.default).lower() if kind is bool else item.default
    option = typer.Option(
        f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}",
        help=f"{escape(meaning[:1].upper() + meaning[1:])}. [dim]\\[default: {default}][/dim]",
        show_default=False,
        metavar={bool: None, int: "N", float: "X"}.get(kind, "NAME"),
        rich_help_panel=panel,
    )
    value: Any = kind if kind in (bool, int, float) else str
    annotation = Annotated[value | None, option]
    return inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _attribute_help(config: type, name: str) -> str:
    """The text of `name` in the ``Attributes:`` section of a Google-style docstring."""
    found = re.search(rf"^ *{name}: (.*(?:\n {{8,}}.*)*)", inspect.getdoc(config) or "", re.MULTILINE)
    return " ".join(found.group(1).split()) if found else ""
