"""Values from outside, checked against a Python type by msgspec; what does not fit is one line.

A type says its own range and choices: `Annotated[float, Meta(ge=0, lt=1)]`, `Literal["sgd", "lars"]`, a `Struct` with
`forbid_unknown_fields` for a table.
"""

from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import msgspec

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
LIMITS = {
    "ge": "of at least",
    "gt": "above",
    "le": "of at most",
    "lt": "below",
    "min_length": "of length at least",
    "max_length": "of length at most",
}
MOST = 60  # characters of what was found
NOTHING = object()


def checked(value: Any, kind: Any, where: str, name: str = "") -> Any:
    """The value as the type has it: a table becomes its struct, a list its tuple, a whole number a float.

    Args:
        value: Tables, lists, strings and numbers, as TOML and JSON give them.
        kind: A type that msgspec knows.
        where: Where it stands, for the message; "" where the name says it all.

    Raises:
        ValueError: For the first part that does not fit: what was expected, and what was found where.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        # A type's own check, `__post_init__`, says what is wrong; msgspec adds where, as we do.
        raise ValueError(_line(value, kind, where, name, str(error.__cause__ or error))) from error


def shorten(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= MOST else f"{text[:MOST]}..."


def _line(value: Any, kind: Any, where: str, path: str, error: str) -> str:
    """What is wrong with a value that does not fit, or with the first part of it that does not."""
    for name, part, part_kind in _parts(value, kind):
        if not _fits(part, part_kind):
            return _line(part, part_kind, where, f"{path}{name}".lstrip("."), error)
    if isinstance(value, Mapping) and (fields := _fields(kind)):  # all that the type knows fits
        known = {f"{path}.{key}".lstrip(".") for key in fields}
        unknown = next((key for key in (f"{path}.{key}".lstrip(".") for key in value) if key not in known), None)
        if unknown is not None:
            return nearest("key", unknown, known) + (f" (in {where})" if where else "")
        place = " of ".join(filter(None, (path, where)))
        return f"{error} (in {place})" if place else error
    what = f"{path} = {_described(kind, value)}" if path else _described(kind, value)
    found = "nothing" if value is NOTHING else shorten(value)
    return f"expected {what}{f' in {where}' if where else ''}, found {found}{did_you_mean(str(value), _choices(kind))}"


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return value is not NOTHING


def _parts(value: Any, kind: Any) -> Iterator[tuple[str, Any, Any]]:
    """What a table or a list holds or lacks, each with its place there and its type."""
    for member in _members(kind):
        origin, arguments = get_origin(member), get_args(member)
        if isinstance(value, Mapping):
            for key, (part_kind, required) in _fields(member).items():
                if required or key in value:
                    yield f".{key}", value.get(key, NOTHING), part_kind
            if origin in (dict, Mapping):
                yield from ((f".{key}", part, arguments[1]) for key, part in value.items())
        if isinstance(value, list | tuple) and origin in (list, tuple):
            kinds = arguments[:1] * len(value) if origin is list or arguments[-1] is ... else arguments
            yield from ((f"[{n}]", part, kind) for n, (part, kind) in enumerate(zip(value, kinds, strict=False)))


def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Each key of a table that the type describes: its type, and whether it must be there; none of another type."""
    found: dict[str, tuple[Any, bool]] = {}
    for member in _members(kind):
        fields = getattr(msgspec.inspect.type_info(member), "fields", ())
        hints = get_type_hints(member, include_extras=True) if fields else {}
        found |= {field.encode_name: (_bare(hints[field.name]), field.required) for field in fields}
    return found


def _bare(kind: Any) -> Any:
    """A type without the word that its key may be left out."""
    return get_args(kind)[0] if get_origin(kind) in (NotRequired, Required) else kind


def _members(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the one."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return tuple(inner for member in get_args(kind) for inner in _members(member))
    return (kind,)


def _choices(kind: Any) -> tuple[str, ...]:
    return tuple(str(value) for m in _members(kind) if get_origin(m) is Literal for value in get_args(m))


def _described(kind: Any, value: Any) -> str:
    """The type in words: what it says of itself, or of its limits those that the value is not within."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_described(member, value) for member in get_args(kind) if member is not NoneType)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is Annotated:
        plain, metas = get_args(kind)[0], [meta for meta in kind.__metadata__ if isinstance(meta, msgspec.Meta)]
        limits = [(name, limit) for meta in metas for name in LIMITS if (limit := getattr(meta, name)) is not None]
        if (said := next((meta.description for meta in metas if meta.description), None)) is not None:
            return said
        broken = [
            f"{LIMITS[name]} {limit:g}"
            for name, limit in limits
            if _fits(value, plain) and not _fits(value, Annotated[plain, msgspec.Meta(**{name: limit})])
        ]
        return f"{_described(plain, value)} {' and '.join(broken)}".strip()
    return NAMES.get(get_origin(kind) or kind, "a table")
