"""What reaches a terminal: every text, names of strangers too, without what would steer it.

Alone: pytest tests/output/test_console.py
"""

import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.table import Table

from probekit.output.console import Terminal, run_app
from probekit.reports.page import escaped
from probekit.visible import visible
from tests.typed import typed

STEER = "red \x1b[31m bell \x07 back \r clear \x9b2J turned \u202e half \ud800 mark \ufeff"
SHOWN = r"red \x1b[31m bell \x07 back \r clear \x9b2J turned \u202e half \ud800 mark \ufeff"


@given(st.text(st.characters()))
def test_nothing_steers_and_everything_else_stays(text: str) -> None:
    shown = visible(text)
    kinds = {unicodedata.category(character) for character in shown.replace("\n", "")}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}
    assert shown.encode().decode() == shown
    if text.isprintable():
        assert shown == text


def test_it_is_shown_as_an_escape() -> None:
    assert visible(STEER) == SHOWN
    assert visible("a\nb") == "a\nb"


def test_lines_tables_and_errors_show_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = Terminal(stderr=False)
    said.file = out = io.StringIO()
    table = Table("name")
    table.add_row(STEER)
    said.print(STEER, "[red]not markup[/red]")
    said.print(table, soft_wrap=False)
    assert out.getvalue().count(SHOWN) == 2
    assert "[red]not markup[/red]" in out.getvalue()
    assert not set(out.getvalue()) & set("\x1b\x07\r\x9b\u202e\ud800")

    def fails() -> None:
        raise ValueError(f"expected a name, found {STEER.replace(chr(13), '')}")

    with pytest.raises(SystemExit):
        run_app(fails)
    assert not set(capsys.readouterr().err) & set("\x1b\x07\x9b\u202e\ud800")
    assert escaped("a\nb") == "a b"


def test_an_error_has_its_beginning_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """A stranger's file may hold a name of millions of characters."""

    def fails() -> None:
        raise ValueError(f"expected a name, found {'x' * 10**6}; type --name NAME")

    with pytest.raises(SystemExit):
        run_app(fails)
    said = capsys.readouterr().err
    assert said.startswith("error: expected a name, found xxx")
    assert said.endswith("xxx; type --name NAME\n")
    assert len(said) < 2100


def test_what_the_system_refuses_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain").touch()
    (tmp_path / "folder").mkdir()
    for act, told in {
        lambda: (tmp_path / "plain" / "a").touch(): f"{tmp_path}/plain/a: not a directory",
        lambda: (tmp_path / "plain").mkdir(): f"{tmp_path}/plain: file exists",
        lambda: (tmp_path / "plain").rename(tmp_path / "folder"): (
            f"{tmp_path}/plain and {tmp_path}/folder: is a directory"
        ),
    }.items():
        with pytest.raises(SystemExit):
            run_app(act)
        assert capsys.readouterr().err == f"error: cannot read or write {told}\n"


def test_a_name_writes_no_line_of_ours(tmp_path: Path) -> None:
    forged = "wrote other.h5: 90,000 train; 1000 classes"
    for kind in "ab":
        (tmp_path / "d" / kind).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (16, 16), 40 * i).save(tmp_path / "d" / kind / f"{i}.png")
    (tmp_path / "d" / "a" / f"x\n{forged}").touch()
    (tmp_path / "d" / f"y\n{forged}.csv").write_text("file,label\n")
    done = typed("import", "d", "--out", f"z\n{forged}.h5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(rf"\n{forged}" in line for line in lines) >= 3
    assert not [line for line in lines if line.startswith(forged)]
    shown = typed("show", f"z\n{forged}.h5", cwd=tmp_path).stdout.splitlines()
    assert not [line for line in shown if line.strip().startswith(forged)]


def test_a_run_of_a_strangers_name(tmp_path: Path) -> None:
    name = "evil\x1b]0;title\x07"
    done = typed("probe", name, cwd=tmp_path)
    assert (done.returncode, "\x1b" in done.stderr, r"evil\x1b]0;title\x07" in done.stderr) == (1, False, True)
