"""Command-line options made from the fields of a model."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from polymix.runs.options import spelling

Command = Callable[..., None]


def with_options(model: type[BaseModel], panel: str | None = None) -> Callable[[Command], Command]:
    """Give a command that takes `**options` one for each field of a model.

    Args:
        model: its fields are described, and may have a `Spelling`.
        panel: the heading under which `--help` lists them.
    """

    def decorate(command: Command) -> Command:
        own = [
            p for p in inspect.signature(command, eval_str=True).parameters.values()
            if p.kind is not p.VAR_KEYWORD
        ]  # fmt: skip
        made = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default if isinstance(field.default, int | str) else None,
                annotation=_option(name, field, panel),
            )
            for name, field in sorted(
                model.model_fields.items(), key=lambda item: item[0] not in model.__annotations__
            )
            if not spelling(field).python_only
        ]
        # A model's own fields, then those it shares with others.
        first = [p for p in own if p.kind is not p.KEYWORD_ONLY]
        parameters = [*first, *made, *(p for p in own if p.kind is p.KEYWORD_ONLY)]
        # Typer asks the signature for names, and the annotations for types.
        signature = inspect.Signature(parameters)
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _option(name: str, field: FieldInfo, panel: str | None) -> Any:
    """A field as typer knows options: `Annotated[type, typer.Option(…)]`."""
    spelled = spelling(field)
    flags = [spelled.flag or "--" + name.replace("_", "-"), *filter(None, [spelled.short])]
    default: bool | str = spelled.default or True
    return Annotated[
        _type(field.annotation),
        typer.Option(
            *flags,
            help=field.description,
            metavar=spelled.metavar,
            show_default=default,
            rich_help_panel=panel,
        ),
    ]


def _type(annotation: Any) -> Any:
    """What typer reads: whole numbers, switches, several words; of the rest, the words.

    What words mean is read with all options, so that all problems are told at once.
    """
    parts = get_args(annotation)
    if annotation in (bool, int):
        return annotation
    if get_origin(annotation) in (tuple, dict):
        return list[str] | None
    if int in parts:
        return int | None
    return str | None if types.NoneType in parts else str
