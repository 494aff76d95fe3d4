"""What a terminal shows: a document's tables, a number above its interval, a wide one in parts; and progress bars."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table as Lines
from rich.text import Text

from probekit.output.document import Block, Cell, Note, Table

MOST = 20  # letters of a name on one line
GAP = 2  # letters between columns


def show_blocks(blocks: Sequence[Block], console: Console) -> None:
    """Prints tables with how they were obtained, and notes; charts and pictures have no place here."""
    for block in blocks:
        if isinstance(block, Table) and not block.folded:
            show_table(block, console, title=block.title)
            if block.how:
                console.print(block.how)
        elif isinstance(block, Note):
            console.print(" ".join(filter(None, (block.text, block.command))))


def show_table(table: Table, console: Console, *, title: str = "") -> None:
    """Prints a table without its details, in parts where it is wider than the terminal."""
    columns = [i for i, name in enumerate(table.columns) if i >= table.names and name not in table.details]
    for number, (part, brief) in enumerate(_parts(table, columns, console.width)):
        lines = _lines(table, part, brief=brief)
        lines.title = Text(title) if title and not number else None
        console.print(lines, soft_wrap=False)


def _parts(table: Table, columns: Sequence[int], width: int) -> list[tuple[Sequence[int], bool]]:
    """The columns of each part, and whether its intervals are brief."""
    for brief in (False, True):
        widths = [_width(table, i, brief=brief) for i in (*range(table.names), *columns)]
        if sum(widths) + GAP * len(widths) <= width or (brief and len(columns) < 2):
            return [(columns, brief)]
    half = -(-len(columns) // 2)
    return [*_parts(table, columns[:half], width), *_parts(table, columns[half:], width)]


def _width(table: Table, column: int, *, brief: bool) -> int:
    """The width of its widest number, or of a name of usual length; titles break between words."""
    most = None if column in table.numeric else MOST
    cells = [len(line) for row in table.rows for line in _text(row[column], brief=brief).splitlines()]
    words = [len(word) for word in table.columns[column].split()]
    return max([1, *(min(cell, most or cell) for cell in cells), *words])


def _lines(table: Table, columns: Sequence[int], *, brief: bool) -> Lines:
    """The table as rich draws it; names and titles break between words, numbers never."""
    drawn = Lines(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for i in (*range(table.names), *columns):
        justify: Any = "right" if i in table.numeric else "left"
        drawn.add_column(Text(table.columns[i]), justify=justify, overflow="fold", width=_width(table, i, brief=brief))
    strong = sorted(table.strong)
    for number, row in enumerate(table.rows):
        last = bool(strong) and number == strong[-1]
        cells = [Text(_text(row[i], brief=brief)) for i in (*range(table.names), *columns)]
        drawn.add_row(*cells, style="bold" if number in table.strong else "", end_section=last)
    return drawn


def _text(cell: Cell, *, brief: bool) -> str:
    ends = (cell.brief or cell.ends) if brief else cell.ends
    below = ends.replace(", ", ",").replace("] ", "]\n")  # what is said beside an interval has a line of its own
    return f"{cell.number}\n{below}" if ends else cell.number


class RateColumn(ProgressColumn):
    """How many a second, of `unit`."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """The rate so far, or "?"."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self.unit}/s" if speed else f"? {self.unit}/s")


@contextmanager
def progress_bar(what: str, console: Console, unit: str = "images") -> Iterator[Callable[[int, int], None]]:
    """Yields `advance(done, total)`; draws on a terminal, and prints one line at the end elsewhere.

    `unit`: what is counted.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(unit),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console)
    task = bar.add_task(what, total=None)

    def advance(done: int, total: int) -> None:
        bar.start()  # at the first image: a mistake that ends the command before is then the only line
        bar.update(task, completed=done, total=total)

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
