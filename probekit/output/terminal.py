"""A document's tables on a terminal: each interval under its number, and a table that is too wide in several parts."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Lines
from rich.text import Text

from probekit.output.document import Block, Cell, Note, Table


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
    columns = [i for i, name in enumerate(table.columns) if i and name not in table.details]
    for number, (part, brief) in enumerate(_parts(table, columns, console)):
        lines = _lines(table, part, brief=brief)
        lines.title = Text(title) if title and not number else None
        console.print(lines, soft_wrap=False)


def _parts(table: Table, columns: Sequence[int], console: Console) -> list[tuple[Sequence[int], bool]]:
    """The columns of each part, and whether its intervals are brief."""
    for brief in (False, True):
        wide = Measurement.get(console, console.options, _lines(table, columns, brief=brief, whole=True)).maximum
        if wide <= console.width or (brief and len(columns) < 2):
            return [(columns, brief)]
    half = -(-len(columns) // 2)
    return [*_parts(table, columns[:half], console), *_parts(table, columns[half:], console)]


def _lines(table: Table, columns: Sequence[int], *, brief: bool, whole: bool = False) -> Lines:
    """The table as rich draws it; with `whole` its cells' full width counts, without line breaks in names."""
    drawn = Lines(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for i in (0, *columns):
        header = Text(table.columns[i] if not whole else max(table.columns[i].split(), key=len, default=""))
        drawn.add_column(header, justify="right" if i in table.numeric else "left", overflow="fold", min_width=1)
    strong = sorted(table.strong)
    for number, row in enumerate(table.rows):
        style = "bold" if number in table.strong else ""
        last = bool(strong) and number == strong[-1]
        drawn.add_row(*(_text(row[i], brief=brief) for i in (0, *columns)), style=style, end_section=last)
    return drawn


def _text(cell: Cell, *, brief: bool) -> Text:
    ends = (cell.brief or cell.ends) if brief else cell.ends
    return Text(f"{cell.number}\n{ends.replace(' ', '')}" if ends else cell.number)
