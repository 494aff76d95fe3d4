"""What is refused, said to whoever calls from Python: the options that a line speaks of become arguments."""

import json
import re
from collections.abc import Callable
from functools import cache, wraps
from inspect import Parameter, signature
from typing import ParamSpec, TypeVar

from probekit.api.kinds import refuse_misfits

P = ParamSpec("P")
R = TypeVar("R")

COMMAND = re.compile(r"(\bprobekit [a-z][^;,()]*)")  # it is typed in a shell, as it stands
ITEM = r"[^\s;,()]+"
OPTION = re.compile(rf"(?<![\w-])--([a-z][a-z-]*)(?: (?!\d+ to )({ITEM}(?:,{ITEM})*))?")
# What may stand behind an option in a sentence, and is no value.
WORDS = re.compile(
    "alone|and|as|at|before|beside|below|by|for|from|in|instead|is|least|needs|of|on|one|or|says|takes|to|two|which|with"
)
OFF = "baselines=False"
ONE_BY_ONE = {"set": "settings"}  # options that are typed again for each, and their argument, a list
MANY = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)  # which say for themselves what they take
ERRORS = (ValueError, OSError)


def in_python(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which refuses arguments of other types, and whose errors speak of its arguments."""

    @wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> R:
        given, parts = signature(function).bind(*args, **named).arguments, signature(function).parameters
        refuse_misfits(function, {k: v for k, v in given.items() if parts[k].kind not in MANY})
        try:
            return function(*args, **named)
        except ERRORS as error:
            # Of others than a line, such as the system's own, no other can be made.
            if error.args != (str(error),) or (told := spoken(str(error))) == str(error):
                raise
            raise type(error)(told) from error

    return call


def spoken(line: str) -> str:
    """A line of the command's, with arguments in place of options: `--pool gap` is `pool="gap"`; commands stay."""
    parts = COMMAND.split(line)
    parts[::2] = [OPTION.sub(_argument, part) for part in parts[::2]]
    return "".join(parts)


def _argument(found: re.Match[str]) -> str:
    option, value = found[1], found[2]
    if (said := _flags().get(option)) is not None:
        return said if value is None else f"{said} {value}"
    name = _arguments().get(f"--{option}", option.replace("-", "_"))
    if value is None or WORDS.fullmatch(value):
        return name.format("..") if value is None else f"{name.format('..')} {value}"
    bare = value.rstrip(".:")
    end = value[len(bare) :]
    said = bare if bare.isupper() or re.fullmatch(r"[\d.]+", bare) else json.dumps(bare.strip("'"), ensure_ascii=False)
    if option == "encoder":
        return f"{said}{end}"
    if option in ONE_BY_ONE:
        return f"{ONE_BY_ONE[option]}=[{said}]{end}"
    return f"{name.format(said)}{end}" if "{}" in name else f"{name}={said}{end}"


@cache
def _arguments() -> dict[str, str]:
    """What is typed for an option of a measurement: an argument of its function, or of a class in `also`."""
    from dataclasses import fields

    from probekit.measurement import measurements

    found: dict[str, str] = {}
    for each in measurements():
        for part in fields(each):
            own = part.name if each.command != "probe" else f"also=[{type(each).__name__}({part.name}={{}})]"
            found.setdefault(part.metadata["flag"], own)
    return found


@cache
def _flags() -> dict[str, str]:
    """Options without a value, and what is typed for them."""
    from probekit.measurement import measurements

    typed = {name: f"{name.replace('-', '_')}=True" for name in ("allow-download", "allow-missing", "overwrite")}
    named = {each.name: f'also=["{each.name}"]' for each in measurements("probe")}
    return typed | {name: own for name, own in named.items() if f"--{name}" not in _arguments()} | {"no-baselines": OFF}
