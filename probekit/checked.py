"""Values from outside, checked against a Python type; what does not fit is one line.

A type says its own range and choices: `Annotated[float, Meta(ge=0, lt=1)]`, `Literal["sgd", "lars"]`. A dataclass is a
table of its keys and no others, a `TypedDict` one that may have more, which are left out.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache, partial
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from probekit.registry import did_you_mean, nearest

NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    NoneType: "null",
    list: "a list",
    tuple: "a list",
}
LIMITS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "ge": ("of at least", operator.ge),
    "gt": ("above", operator.gt),
    "le": ("of at most", operator.le),
    "lt": ("below", operator.lt),
    "min_length": ("of length at least", lambda value, limit: len(value) >= limit),
    "pattern": ("", lambda value, limit: re.search(limit, value)),
}
MOST = 60  # characters of what was found
NOTHING = object()

Convert = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Meta:
    """Limits of a number, of a length or of a text, and what is said in place of them, which a pattern needs."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_length: int | None = None
    pattern: str | None = None
    description: str = ""


class _MisfitError(Exception):
    """What does not fit: the place in the value, and the line that says so of a path and where that is."""

    def __init__(self, line: Callable[[str, str], str], path: str = "") -> None:
        self.line, self.path = line, path

    def within(self, place: str) -> "_MisfitError":
        return _MisfitError(self.line, place + self.path)


def checked(value: Any, kind: Any, where: str, name: str = "") -> Any:
    """The value as the type has it: a table becomes its dataclass, a list its tuple, a whole number a float.

    A ValueError for the first part that does not fit: what was expected, and what was found where. `value`: tables,
    lists, strings and numbers, as TOML and JSON give them. `kind`: built of `Any`, the types in `NAMES`, unions,
    `Literal`, `Annotated` with `Meta`, `dict[str, ...]`, dataclasses (`metadata={"key": ...}`: another key than the
    field's name) and `TypedDict`. `where`: where it stands, for the message; "" where the name says it all.
    """
    try:
        return _converter(kind)(value)
    except _MisfitError as misfit:
        raise ValueError(misfit.line((name + misfit.path).lstrip("."), where)) from misfit


def shorten(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= MOST else f"{text[:MOST]}..."


def key_of(field: "Field[Any]") -> str:
    """What a dataclass's field is called outside."""
    key: str = field.metadata.get("key", field.name)
    return key


@cache
def _converter(kind: Any) -> Convert:
    """What makes a value of a type, or raises `_MisfitError`."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Annotated:
        limits = [(LIMITS[name][1], limit) for name, limit in _limits(kind)]
        return partial(_limited, kind, _converter(kind.__origin__), limits)
    if origin in (Union, UnionType):
        members = sorted(arguments, key=lambda member: member is float)  # which takes whole numbers, too
        return partial(_union, kind, list(map(_converter, members)))
    if origin in (list, tuple):
        any_length = origin is list or arguments[-1] is ...
        return partial(_sequence, kind, origin, any_length, [_converter(each) for each in arguments if each is not ...])
    if origin in (dict, Mapping):
        return partial(_mapping, kind, _converter(arguments[1]))
    if is_dataclass(kind) or is_typeddict(kind):
        return partial(_table, kind, dict if is_typeddict(kind) else kind, _parts(kind))
    if origin is Literal:
        return partial(_choice, kind, arguments)
    assert kind is Any or kind in NAMES, kind
    return partial(_plain, kind)


def _plain(kind: Any, value: Any) -> Any:
    if type(value) is kind or kind is Any:  # not isinstance: true is no number
        return value
    if kind is float and type(value) is int and abs(value) < 2**1023:
        return float(value)
    raise _misfit(kind, value)


def _choice(kind: Any, choices: tuple[Any, ...], value: Any) -> Any:
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return value
    raise _misfit(kind, value)


def _limited(kind: Any, convert: Convert, limits: list[tuple[Callable[[Any, Any], Any], Any]], value: Any) -> Any:
    found = convert(value)
    for holds, limit in limits:
        if not holds(found, limit):
            raise _misfit(kind, value)
    return found


def _union(kind: Any, converters: list[Convert], value: Any) -> Any:
    inside = None
    for convert in converters:
        try:
            return convert(value)
        except _MisfitError as misfit:
            inside = misfit if misfit.path else inside
    raise inside or _misfit(kind, value)


def _sequence(kind: Any, make: Any, any_length: bool, converters: list[Convert], value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise _misfit(kind, value)
    found: list[Any] = []
    try:
        for part, convert in zip(value, converters * len(value) if any_length else converters, strict=False):
            found.append(convert(part))
    except _MisfitError as misfit:
        raise misfit.within(f"[{len(found)}]") from misfit
    if not any_length and len(value) != len(converters):
        raise _misfit(kind, value)
    return make(found)


def _mapping(kind: Any, convert: Convert, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise _misfit(kind, value)
    found = {}
    for key, part in value.items():
        try:
            found[key] = convert(part)
        except _MisfitError as misfit:
            raise misfit.within(f".{key}") from misfit
    return found


def _table(kind: Any, make: Any, parts: list[tuple[str, str, Any, Convert, bool]], value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise _misfit(kind, value)
    found = {}
    for key, name, part_kind, convert, required in parts:
        if key in value:
            try:
                found[name] = convert(value[key])
            except _MisfitError as misfit:
                raise misfit.within(f".{key}") from misfit
        elif required:
            raise _misfit(part_kind, NOTHING, f".{key}")
    if make is dict:
        return found
    known = [key for key, *_ in parts]
    if unknown := [key for key in value if key not in known]:
        raise _MisfitError(lambda path, where: _unknown(path, where, unknown[0], known), f".{unknown[0]}")
    try:
        return make(**found)
    except ValueError as error:
        said = str(error)  # `__post_init__`'s own line; the dot: it is about what is inside
        raise _MisfitError(lambda path, where: _placed(said, path.rstrip("."), where), ".") from error


def _parts(kind: Any) -> list[tuple[str, str, Any, Convert, bool]]:
    """Each part of a table: key, name, type, what makes it, and whether it must be there."""
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        bare = {
            key: get_args(hint)[0] if get_origin(hint) in (NotRequired, Required) else hint
            for key, hint in hints.items()
        }
        return [(key, key, hint, _converter(hint), key in kind.__required_keys__) for key, hint in bare.items()]
    return [
        (key_of(f), f.name, hints[f.name], _converter(hints[f.name]), f.default is f.default_factory is MISSING)
        for f in fields(kind)
    ]


def _limits(kind: Any) -> list[tuple[str, Any]]:
    metas = [meta for meta in kind.__metadata__ if isinstance(meta, Meta)]
    return [(name, limit) for meta in metas for name in LIMITS if (limit := getattr(meta, name)) is not None]


def _misfit(kind: Any, value: Any, path: str = "") -> _MisfitError:
    def line(path: str, where: str) -> str:
        what = f"{path} = {_described(kind, value)}" if path else _described(kind, value)
        found = "nothing" if value is NOTHING else shorten(value)
        hint = did_you_mean(str(value), _choices(kind))
        return f"expected {what}{f' in {where}' if where else ''}, found {found}{hint}"

    return _MisfitError(line, path)


def _unknown(path: str, where: str, key: str, known: Sequence[str]) -> str:
    before = path.removesuffix(key)
    return nearest("key", path, (before + name for name in known)) + (f" (in {where})" if where else "")


def _placed(said: str, path: str, where: str) -> str:
    place = " of ".join(filter(None, (path, where)))
    return f"{said} (in {place})" if place else said


def _choices(kind: Any) -> tuple[str, ...]:
    """The words of a type's literals, also of those in a union."""
    if get_origin(kind) is Literal:
        return tuple(map(str, get_args(kind)))
    members = get_args(kind) if get_origin(kind) in (Union, UnionType, Annotated) else ()
    return tuple(choice for member in members for choice in _choices(member))


def _described(kind: Any, value: Any) -> str:
    """The type in words: what it says of itself, or of its limits those that the value is not within."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_described(member, value) for member in get_args(kind) if member is not NoneType)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is Annotated:
        if said := next((meta.description for meta in kind.__metadata__ if getattr(meta, "description", "")), ""):
            return said
        plain = kind.__origin__
        try:
            found = _converter(plain)(value)
            broken = [
                f"{LIMITS[name][0]} {limit:g}" for name, limit in _limits(kind) if not LIMITS[name][1](found, limit)
            ]
        except _MisfitError:
            broken = []
        return f"{_described(plain, value)} {' and '.join(broken)}".strip()
    if get_origin(kind) is tuple and ... not in get_args(kind):
        return f"a list of {len(get_args(kind))}"
    return NAMES.get(get_origin(kind) or kind, "a table")
