"""A progress bar with images a second and the time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class RateColumn(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        """The rate so far, or "?"."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} images/s" if speed else "? images/s")


@contextmanager
def progress_bar(what: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """Yields `advance(done, total)`; draws on a terminal, and prints one line at the end elsewhere."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
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
