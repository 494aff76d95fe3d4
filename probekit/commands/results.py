"""The files of results/: what a new result takes the place of, and what it stands beside."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from probekit.files import read_json


def place_for(folder: Path, stem: str, result: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Under which name a result is to stand, and the older one whose place it takes.

    It takes the place of a result of the same command, of the same file before its contents changed, or of weights
    that are no longer there; every other file stays, and this result stands beside it.

    Args:
        folder: `Run.results`.
        stem: The name that it would have, without ".json".
        result: It, with checkpoint_hash, data, data_hash and command.

    Returns:
        The name, and the older result, empty where there is none.
    """
    number, name = 1, stem
    while (folder / f"{name}.json").exists():
        before = _read(folder / f"{name}.json")
        if _replaces(result, before):
            return name, before
        number += 1
        name = f"{stem}-{number}"
    return name, {}


def _replaces(result: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    same = {key: before.get(key) == result.get(key) for key in ("checkpoint_hash", "data_hash", "data", "command")}
    if not isinstance(before.get("command"), str):  # no file of ours
        return False
    if not same["checkpoint_hash"]:
        return True
    return same["command"] if same["data_hash"] else same["data"]


def _read(path: Path) -> dict[str, Any]:
    with suppress(ValueError):
        return read_json(path)
    return {}
