"""Whether what Python gives is of the types that a function says."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from probekit.checked import shorten

NUMBERS = {bool: (bool, np.bool_), int: (int, np.integer), float: (int, float, np.integer, np.floating)}
MODULES = re.compile(r"\b(?:\w+\.)+(?=\w)")
_hints = cache(get_type_hints)


def refuse_misfits(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """A ValueError for the first argument of another type than its annotation; what says no type takes any."""
    hints = _hints(function)
    for name, value in given.items():
        kind = hints.get(name, Any)
        if not _fits(value, kind):
            raise ValueError(f"expected {name} of type {_told(kind)}, found {shorten(value)}")


def _fits(value: Any, kind: Any) -> bool:
    """A list does for any sequence, a whole number for any number; of other tables and choices nothing is asked."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin is Annotated:
        return _fits(value, parts[0])
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin in (Sequence, tuple):
        return isinstance(value, list | tuple) and all(_fits(each, parts[0]) for each in value)
    return not isinstance(origin, type) or isinstance(value, NUMBERS.get(origin, origin))


def _told(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else MODULES.sub("", str(kind))
