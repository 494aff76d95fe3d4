"""What a report is made of, whatever its format: sections of notes, tables, charts and pictures."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:  # slow to import, and needed only where something is drawn
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    number: str  # what is shown, without an interval
    value: float | str | None  # sorts: a number, or None for what is missing, which goes last
    ends: str = ""  # the interval, "[86.1, 90.0]", or ""
    brief: str = ""  # the same in fewer letters, for narrow places

    @property
    def text(self) -> str:
        """All of it on one line."""
        return f"{self.number} {self.ends}" if self.ends else self.number


@dataclass(frozen=True)
class Table:
    """A table."""

    key: str  # unique in the report; plain letters, digits and dashes
    title: str
    how: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    strong: frozenset[int] = frozenset()  # numbers of the rows to set in bold
    folded: bool = False  # shown on demand, and on no terminal
    details: frozenset[str] = frozenset()  # columns that a terminal leaves out
    names: int = 1  # how many of the first columns tell its rows apart

    @property
    def numeric(self) -> frozenset[int]:
        """The columns that hold numbers and dashes alone."""
        kinds = [{type(row[i].value) for row in self.rows} for i in range(len(self.columns))]
        return frozenset(i for i, found in enumerate(kinds) if found <= {int, float, type(None)})


@dataclass(frozen=True)
class Chart:
    """A figure that is drawn when a format shows it. `key`, `title` and `how` as of a table."""

    key: str
    title: str
    how: str
    draw: "Callable[[], Figure]"
    photographs: bool = False  # it shows images: a page takes the file that was drawn when it was measured


@dataclass(frozen=True)
class Picture:
    """A PNG file that another command drew. `key`, `title` and `how` as of a table."""

    key: str
    title: str
    how: str
    path: Path


@dataclass(frozen=True)
class Note:
    """A line of text; `command` is what to type, if anything."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class Headline:
    """One number in large letters; what it is of; the same of others beside it; and of its parts."""

    number: str
    ends: str
    of: str
    beside: Sequence[tuple[str, str]]
    parts: Sequence[tuple[str, str]]


Block = Table | Chart | Picture | Note


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it: how it was obtained, and by which command; folded ones on demand."""

    key: str
    title: str
    blocks: Sequence[Block]
    how: str = ""
    command: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Chapter:
    """Sections of one run, or of the comparison."""

    key: str
    title: str
    lead: str
    sections: Sequence[Section]
    headline: Headline | None = None


@dataclass(frozen=True)
class Document:
    """A whole report; `command` makes it again."""

    title: str
    command: str
    chapters: Sequence[Chapter]


def drawing(name: str, *given: Any, **named: Any) -> "Callable[[], Figure]":
    """What a function of `output.charts` draws; that module is imported only then."""
    return lambda: cast("Figure", getattr(import_module("probekit.output.charts"), name)(*given, **named))


def key_of(*parts: object) -> str:
    """Letters, digits and dashes that stand for some names; not unique by itself."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(map(str, parts)).lower()).strip("-")[:80]


def in_a_line(title: str) -> str:
    """A title amid a sentence: "Linear head by SGD" -> "linear head by SGD"."""
    return f"{title[:1].lower()}{title[1:]}"


def text(value: object) -> Cell:
    """A cell that sorts as text."""
    return Cell(str(value), str(value))


def by(name: str, cell: Callable[[Any], Cell] = text) -> Callable[[Mapping[str, Any]], Cell]:
    """A column of what rows have under a name."""
    return lambda row: cell(row[name])


def table(
    key: str, title: str, how: str, columns: Mapping[str, Callable[[Any], Cell]], rows: Iterable[Any], **more: Any
) -> Table:
    """A table with a line for each row; its columns by their titles."""
    lines = [[cell(row) for cell in columns.values()] for row in rows]
    return Table(key, title, how, tuple(columns), lines, **more)


def number(value: float | None, digits: int = 3) -> Cell:
    """A number with so many digits after the point; a dash where it is undefined."""
    return Cell("-", None) if value is None else Cell(f"{value:.{digits}f}", value)


def plain(value: float | None) -> Cell:
    """A number with as many digits as it needs."""
    return Cell("-", None) if value is None else Cell(f"{value:g}", value)


def count(value: int | None) -> Cell:
    """A whole number."""
    return Cell("-", None) if value is None else Cell(f"{value:,}", value)


def percent(value: float | None) -> Cell:
    """A fraction, in %."""
    return Cell("-", None) if value is None else Cell(f"{100 * value:.1f}", value)


def percents(value: float | None, ci: Sequence[float] | None) -> Cell:
    """A fraction with its interval, in %."""
    if value is None:
        return Cell("-", None)
    if ci is None:
        return percent(value)
    low, high = (100 * end for end in ci)
    return Cell(f"{100 * value:.1f}", value, f"[{low:.1f}, {high:.1f}]", f"[{low:.0f},{high:.0f}]")


def points(value: float | None) -> Cell:
    """A difference of fractions, in percentage points, with its sign."""
    return Cell("-", None) if value is None else Cell(f"{100 * value:+.1f}", value)


def percent_interval(ends: Sequence[float] | None, *, sign: bool = False) -> Cell:
    """An interval of fractions in %; sorts by its middle."""
    if ends is None:
        return Cell("-", None)
    low, high = (f"{100 * end:{'+' if sign else ''}.1f}" for end in ends)
    return Cell(f"[{low}, {high}]", sum(ends) / 2)


def estimate(found: Mapping[str, Any] | None, digits: int = 3) -> Cell:
    """A mean with its interval, as {"mean", "ci"}."""
    if found is None or found["mean"] is None:
        return Cell("-", None)
    return scored(found["mean"], found["ci"], digits)


def scored(value: float | None, ci: Sequence[float] | None, digits: int = 3) -> Cell:
    """A number with its interval, with so many digits after the point."""
    if value is None or ci is None:
        return number(value, digits)
    low, high = ci
    brief = re.sub(r"(?<!\d)0\.", ".", f"[{low:.{digits}f},{high:.{digits}f}]")  # a leading zero alone
    return Cell(f"{value:.{digits}f}", value, f"[{low:.{digits}f}, {high:.{digits}f}]", brief)


def probability(p: float | None) -> Cell:
    """A p-value."""
    if p is None:
        return Cell("-", None)
    return Cell("< 0.001" if p < 0.001 else f"{p:.3f}", p)
