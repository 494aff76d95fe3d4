"""Tables on a terminal: every column, number and interval is there at any width.

Alone: pytest tests/output/test_terminal.py
"""

import io
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.output.console import Terminal
from probekit.output.document import Cell, Note, Table, count, percents, scored, text
from probekit.output.terminal import show_blocks, show_table

NAMES = ("conrec last", "random weights", "a name of a stranger that is far too long for any column of a terminal")


def shown(table: Table, width: int, *, title: str = "") -> str:
    said, out = terminal(width)
    show_table(table, said, title=title)
    return out.getvalue()


def terminal(width: int) -> tuple[Terminal, io.StringIO]:
    said = Terminal(stderr=False)
    said.file = out = io.StringIO()
    said.width = width
    return said, out


def table(columns: int = 5, **more: object) -> Table:
    """Every number and interval is another, so that each can be looked for."""
    names = ("features", *(f"score-{i}" for i in range(columns)))
    rows = []
    for j, name in enumerate(NAMES):
        cells = [text(name)]
        for i in range(columns):
            value = (1 + i + 20 * j) / 100
            cells.append((percents, scored)[i % 2](value, [value - 0.004, value + 0.004]))
        rows.append(cells)
    return Table("key", "Title", "How.", names, rows, strong=frozenset((0,)), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 400])
@pytest.mark.parametrize("columns", [1, 5, 12])
def test_no_number_and_no_interval_is_lost(width: int, columns: int) -> None:
    made = table(columns)
    printed = shown(made, width)
    assert max(map(len, printed.splitlines())) <= width
    words = printed.split()
    for row in made.rows:
        for cell in row[1:]:
            assert words.count(cell.number) == 1, cell
            whole, brief = (words.count(ends) for ends in (cell.ends.replace(" ", ""), cell.brief))
            assert whole + brief == 1, cell


@pytest.mark.parametrize("width", [40, 80])
def test_each_part_of_a_wide_table_begins_with_the_names(width: int) -> None:
    words = shown(table(12), width).split()
    parts = words.count("features")
    assert parts > 1
    assert [words.count(word) for word in ("conrec", "random", "stranger")] == [parts] * 3
    assert [word for word in words if word.startswith("score-")] == [f"score-{i}" for i in range(12)]


def test_each_part_has_all_columns_that_tell_rows_apart() -> None:
    """Of the pairs a-b and a-c the first run alone says nothing."""
    rows = [[text("a"), text(b), *(percents(i / 100, None) for i in range(12))] for b in ("bb", "cc")]
    made = Table("key", "", "", ("one", "other", *(f"score-{i}" for i in range(12))), rows, names=2)
    words = shown(made, 60).split()
    parts = words.count("one")
    assert parts > 1
    assert [words.count(word) for word in ("other", "a", "bb", "cc")] == [parts, 2 * parts, parts, parts]


def test_a_narrow_table_stands_in_one_part_with_each_interval_under_its_number() -> None:
    lines = shown(table(2), 100, title="Title").splitlines()
    assert [line for line in lines if line.strip() == "Title"]
    first = next(i for i, line in enumerate(lines) if "conrec last" in line)
    assert lines[first].split()[-2:] == ["1.0", "0.020"]
    assert lines[first + 1].split() == ["[0.6,1.4]", "[0.016,0.024]"]
    ends = [[match.end() for match in re.finditer(r"\S+", line)][-2:] for line in lines[first : first + 2]]
    assert ends[0] == ends[1], "right under each other"


def test_intervals_are_brief_before_a_table_is_broken() -> None:
    made = table(6)
    wide, brief = (shown(made, width) for width in (120, 90))
    assert "[0.6,1.4]" in wide
    assert "[1,1]" in brief
    assert brief.count("features") == 1


def test_details_are_left_out_and_nothing_else() -> None:
    words = shown(table(details=frozenset(("score-2", "score-4"))), 100).split()
    assert [word for word in words if word.startswith("score-")] == ["score-0", "score-1", "score-3"]


def test_titles_break_between_words_alone() -> None:
    names = ("features", "balanced accuracy %", "k=200, T=0.1 %")
    printed = shown(Table("key", "", "", names, [[text("conrec last"), percents(0.5, None), percents(0.25, None)]]), 60)
    lines = [line.split() for line in printed.splitlines() if line.strip()]
    assert lines[:3] == [["balanced", "k=200,"], ["accuracy", "T=0.1"], ["features", "%", "%"]]


def test_what_is_said_beside_an_interval_is_not_glued_to_it() -> None:
    rows = [[text("a"), Cell("4.7", 4.7, "[3.5, 5.5] level4 gap")]]
    lines = shown(Table("key", "", "", ("features", "px"), rows), 80).splitlines()
    assert [line.strip() for line in lines[-4:-1]] == ["a                4.7", "[3.5,5.5]", "level4 gap"]


def test_what_is_missing_is_a_dash_and_what_is_undefined_too() -> None:
    rows = [[text("a"), Cell("-", None), count(None), percents(None, None), scored(0.5, None)]]
    printed = shown(Table("key", "Title", "", ("features", "b", "c", "d", "e"), rows), 80)
    assert printed.splitlines()[-2].split() == ["a", "-", "-", "-", "0.500"]


def test_folded_tables_stay_out_and_notes_say_what_to_type() -> None:
    said, out = terminal(100)
    show_blocks([table(2, folded=True), Note("Not measured yet. Type:", "probekit probe a"), table(1)], said)
    assert out.getvalue().startswith("Not measured yet. Type: probekit probe a\n")
    assert out.getvalue().count("Title") == 1
    assert out.getvalue().rstrip().endswith("How.")


@given(
    st.lists(st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=40), min_size=1, max_size=8),
    st.integers(30, 200),
)
def test_any_names_at_any_width(names: Sequence[str], width: int) -> None:
    made = Table("key", "", "", ("features", *names), [[text(name), *map(count, range(len(names)))] for name in names])
    printed = shown(made, width)
    for i in range(len(names)):
        assert str(i) in printed.split()


def test_kappa_is_below_zero_with_its_interval() -> None:
    rows = [[text("conrec last"), scored(-0.25, [-1.0, 0.125])]]
    printed = shown(Table("key", "", "", ("features", "kappa"), rows), 60)
    assert "-0.250" in printed.split()
    assert "[-1.000,0.125]" in printed.split()
