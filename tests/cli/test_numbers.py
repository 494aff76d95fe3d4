"""Numbers that are none, in every option that takes one."""

import pytest
import typer.main
from typer.testing import CliRunner

from probekit import cli

OPTIONS = [
    (name, option.opts[0])
    for name, command in typer.main.get_command(cli.app).commands.items()  # type: ignore[attr-defined]
    for option in command.params
    if option.type_descriptor.annotation is float
]


def test_there_are_such_options() -> None:
    assert {("probe", "--lr"), ("import", "--val-fraction"), ("sweep", "--limit-minutes")} <= set(OPTIONS)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_no_option_takes_a_number_that_is_none(command: str, option: str, value: str) -> None:
    done = CliRunner().invoke(cli.app, [command, f"{option}={value}"])
    assert done.exit_code == 2
    assert option in done.output
    assert "finite number" in done.output or "Input should be" in done.output  # out of its range, too
