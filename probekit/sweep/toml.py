"""A TOML table that is read key by key, so that every mistake in it is one line that says where."""

from collections.abc import Sequence
from typing import Any

from probekit.registry import nearest


class Table:
    """A TOML table whose keys are taken one by one; what is left at the end is unknown.

    Every method raises a ValueError where it finds something else.

    Args:
        content: The table.
        where: Named in messages.
    """

    def __init__(self, content: dict[str, Any], where: str) -> None:
        self.content, self.where = content, where
        self.known: list[str] = []

    def take(self, key: str, kind: type, *default: Any) -> Any:
        """A value of that type, or the default where one is given and the key is missing."""
        self.known.append(key)
        if key not in self.content and default:
            return default[0]
        value = self.content.get(key)
        if type(value) is not kind:
            name = {dict: "a table", list: "a list", str: "a string", int: "a whole number", bool: "true or false"}[
                kind
            ]
            found = "nothing" if value is None else shorten(value)
            raise ValueError(f"expected {key} = {name} in {self.where}, found {found}")
        return value

    def table(self, key: str) -> "Table":
        """A table."""
        return Table(self.take(key, dict), f"[{key}] of {self.where}")

    def tables(self, key: str) -> list["Table"]:
        """A list of tables, at least one."""
        entries = self.take(key, list)
        if not entries or any(type(entry) is not dict for entry in entries):
            raise ValueError(f"expected at least one table [[{key}]] in {self.where}, found {shorten(entries)}")
        return [Table(entry, f"[[{key}]] {n + 1} of {self.where}") for n, entry in enumerate(entries)]

    def strings(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty where the key is missing."""
        values = self.take(key, list, [])
        if any(type(value) is not str for value in values):
            raise ValueError(f"expected {key} = a list of strings in {self.where}, found {shorten(values)}")
        return tuple(values)

    def done(self) -> None:
        """Refuses what nobody took."""
        for key in self.content:
            if key not in self.known:
                raise ValueError(f"{nearest('key', key, self.known)} (in {self.where})")


def check_distinct(values: Sequence[Any], where: str) -> None:
    """Refuses values that stand twice."""
    twice = [value for n, value in enumerate(values) if value in values[:n]]
    if twice:
        raise ValueError(f"expected different {where}, found {twice[0]!r} twice")


def shorten(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
