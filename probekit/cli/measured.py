"""The options of measurements: a command is given those of all its measurements, and finds out which were asked for."""

import inspect
import shlex
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from functools import wraps
from types import UnionType
from typing import Annotated, Any, Literal, get_args

import typer

from probekit.cli.shared import finite
from probekit.measurement import Measurement, measurements

ASKED = "asked"  # the argument of a command that takes the measurements that were asked for


def with_measurements(command: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the options of the measurements of a command, in place of its argument `asked`."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function)
        own = [parameter for name, parameter in signature.parameters.items() if name != ASKED]
        added = [parameter for each in measurements(command) for parameter in _parameters(each)]
        names = {parameter.name for parameter in added}

        @wraps(function)
        def call(**given: Any) -> None:
            typed = {name: given.pop(name) for name in names}
            function(**given, **{ASKED: asked_for(command, typed)})

        place = next((i for i, parameter in enumerate(own) if parameter.name == "encoder"), len(own))
        parameters = [*own[:place], *added, *own[place:]]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call

    return decorate


def asked_for(command: str, typed: Mapping[str, Any]) -> list[Measurement]:
    """The measurements of a command that were typed, with their options.

    `typed`: each parameter of `with_measurements`; None, or False of a flag, is not typed. A ValueError if an option
    was typed without its measurement, or has no such value.
    """
    found = []
    for each in measurements(command):
        given = {part.name: typed[_name(part)] for part in fields(each) if typed[_name(part)] is not None}
        asking = [part.name for part in fields(each) if part.metadata.get("asks")]
        unasked = not asking and not each.help  # the command is about nothing else
        if any(name in given for name in asking) or typed.get(_flag(each)) or (unasked and fields(each)):
            read = {part.name: part.metadata["read"] for part in fields(each) if "read" in part.metadata}
            values = {name: read[name](value) if name in read else value for name, value in given.items()}
            found.append(type(each)(**values))
        elif given:
            parts = {part.name: part.metadata["flag"] for part in fields(each)}
            option = parts[asking[0]] if asking else f"--{each.name}"
            lone = " and ".join(parts[name] for name in given)
            raise ValueError(
                f"expected {lone} with {option}, found it without; type {shlex.join(each.words)}, too, or leave it out"
            )
    return found


def _parameters(each: Measurement) -> list[inspect.Parameter]:
    """The flag that asks for it, unless one of its options does, and its options."""
    found = []
    if each.help and not any(part.metadata.get("asks") for part in fields(each)):
        flag = typer.Option(f"--{each.name}", help=each.help, rich_help_panel=each.title)
        found.append(_parameter(_flag(each), Annotated[bool, flag], False))
    return [*found, *(_option(each, part) for part in fields(each))]


def _option(each: Measurement, part: "Field[Any]") -> inspect.Parameter:
    about = part.metadata
    kind: Any = str if "read" in about else _plain(part.type)
    if "choices" in about:
        kind = Literal[*about["choices"]]
    shown = about.get("write", str)(part.default) if part.default is not None and not about.get("asks") else None
    option = typer.Option(
        about["flag"],
        help=about["help"],
        show_default=shown or False,
        metavar=about.get("metavar"),
        min=about.get("least"),
        callback=finite if kind is float else None,
        rich_help_panel=each.title,
    )
    return _parameter(_name(part), Annotated[kind | None, option], None)


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _plain(kind: Any) -> Any:
    """`float | None` -> float."""
    return next(part for part in get_args(kind) if part is not type(None)) if isinstance(kind, UnionType) else kind


def _name(part: "Field[Any]") -> str:
    return str(part.metadata["flag"]).removeprefix("--").replace("-", "_")


def _flag(each: Measurement) -> str:
    return each.name.replace("-", "_")
