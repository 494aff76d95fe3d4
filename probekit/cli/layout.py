"""How help is laid out: options and commands in groups, then examples. Typer's own boxes cost rich's Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup

LONGEST = 200  # characters of what a command does, on as many lines as it takes


class Command(TyperCommand):
    """A command whose options stand under their `rich_help_panel`, and whose epilog is one example a line."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes each group; those of no group first, arguments before options."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            plain = "Arguments" if isinstance(parameter, TyperArgument) else "Options"
            if record := parameter.get_help_record(ctx):
                rows.setdefault(getattr(parameter, "rich_help_panel", None) or plain, []).append(record)
        first = {"Arguments": 0, "Options": 1}
        _write(dict(sorted(rows.items(), key=lambda group: first.get(group[0], 2))), formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the examples as they would be typed."""
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in self.epilog.splitlines()))


class Group(TyperGroup):
    """The application: its commands stand under their `rich_help_panel`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes each group, in the order in which the commands were added."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            group = getattr(command, "rich_help_panel", None) or "Commands"
            rows.setdefault(group, []).append((name, command.get_short_help_str(LONGEST)))
        _write(rows, formatter)


def _write(groups: Mapping[str, Sequence[tuple[str, str]]], formatter: Any) -> None:
    for title, rows in groups.items():
        with formatter.section(title):
            formatter.write_dl(rows)
