"""Settings by dotted names, `{"train.epochs": 5}`, as presets, TOML files and `--set` give them; unchecked yet."""

import inspect
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from probekit.files import read_toml
from probekit.registry import BRANCHES, branch_named, get

BARE_POINT = re.compile(r"^(\s*[+-]?)\.(?=\d)")  # of .5, which TOML has not


@dataclass(frozen=True)
class Asked:
    """What is typed of a run.

    `preset`: a preset's name, or None for the device's default; `seed`: seed of initialisation, order, views and
    dropout; `branches`: names in `BRANCHES` or `VARIANTS`, attached in this order; `log`: names in `LOGGERS`.
    """

    method: str
    preset: str | None = None
    seed: int = 0
    config_file: Path | None = None
    overrides: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    branches: Sequence[str] = ()
    device: str = "auto"
    log: Sequence[str] = ()


def presets() -> dict[str, str]:
    """Every preset's name and its first line."""
    folder = resources.files("probekit") / "presets"
    found = sorted(f.name for f in folder.iterdir() if f.name.endswith(".toml"))
    return {name.removesuffix(".toml"): (folder / name).read_text().splitlines()[0].lstrip("# ") for name in found}


def attached(names: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The classes of the branches that names after --branch stand for, and what their variants set, by dotted names.

    A ValueError if there is no such branch, or one is named twice.
    """
    kinds: dict[str, Any] = {}
    changed: dict[str, Any] = {}
    for branch, brought in map(branch_named, names):
        if branch in kinds:
            raise ValueError(f"expected each --branch once, found {branch} twice; its variants count as it")
        kinds[branch] = get(BRANCHES, "branch", branch)
        changed |= {f"branch.{branch}.{name}": value for name, value in brought.items()}
    return kinds, changed


def read_preset(preset: str, method: str, branches: Iterable[str]) -> dict[str, Any]:
    """A preset's settings for a method with branches.

    Its file, then those that it has of `PRESET/METHOD`, and for each branch of `PRESET/BRANCH` and
    `PRESET/BRANCH/METHOD`.
    """
    folder = resources.files("probekit") / "presets"
    names = [preset, f"{preset}/{method}"]
    for branch in branches:
        names += [f"{preset}/{branch}", f"{preset}/{branch}/{method}"]
    found: dict[str, Any] = {}
    for file in (folder / f"{name}.toml" for name in names):
        found |= flatten(tomllib.loads(file.read_text())) if file.is_file() else {}
    return found


def method_options(method_class: Any) -> dict[str, Any]:
    """A method's or a branch's settings and their defaults: its keyword-only arguments, with what a variant fixes."""
    keywords = {
        p.name: p.default
        for p in inspect.signature(method_class.__init__).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return keywords | dict(getattr(method_class, "defaults", {}))


def typed(config_file: Path | None, overrides: Sequence[str], options: Mapping[str, Any] = {}) -> dict[str, Any]:
    """What the user gave, by dotted names: a file's settings, then `--set`, then a command's own options."""
    of_file = {} if config_file is None else flatten(read_toml(config_file))
    return of_file | parse_overrides(overrides) | dict(options)


def overridden(overrides: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """A line for each `--set` that does not stand, since a command's own option says something else."""
    asked = parse_overrides(overrides)
    return [
        f"warning: {name}={asked[name]!r} of --set does not stand: its own option says {value}"
        for name, value in options.items()
        if asked.get(name, value) != value
    ]


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`["a.b=1", "c=word"]` -> `{"a.b": 1, "c": "word"}`; values are TOML, or `.5`, and a bare word is a string.

    A ValueError if an item has no "=" or no name.
    """
    parsed: dict[str, Any] = {}
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise ValueError(f"expected NAME=VALUE after --set, found {item!r}")
        try:
            table = tomllib.loads("x = " + BARE_POINT.sub(r"\g<1>0.", value))
        except (ValueError, RecursionError):  # no TOML, or numbers and brackets beyond what Python reads
            table = {}
        parsed[key.strip()] = table["x"] if table.keys() == {"x"} else value.strip()  # one value, no further lines
    return parsed


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": inner for key, inner in flatten(value).items()}
        else:
            flat[name] = value
    return flat
